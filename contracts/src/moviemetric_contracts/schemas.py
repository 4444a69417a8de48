"""JSON schemas of all types. `python -m moviemetric_contracts.schemas DIR` writes one file each."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from moviemetric_contracts.envelope import Event
from moviemetric_contracts.messages import REGISTRY


def schema_files() -> Iterator[tuple[str, str]]:
    """Yields (file name, text) for every registered type, in the order of the names."""
    for event_type, cls in sorted(REGISTRY.items()):
        schema = Event[cls].model_json_schema(mode="validation")
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema["title"] = event_type
        schema["properties"]["type"] = {"const": event_type, "type": "string"}
        yield f"{event_type}.json", json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main(folder: Path) -> None:
    """Write the schema of every type into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
