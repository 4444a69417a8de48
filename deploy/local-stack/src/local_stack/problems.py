"""What an error's answer says, for people."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import httpx


def problem_of(answer: httpx.Response) -> str:
    """What an error's answer says, in one or more lines."""
    said: Mapping[str, Any] = {}
    with suppress(ValueError):
        body = answer.json()
        said = cast("Mapping[str, Any]", body) if isinstance(body, dict) else {}
    text = str(said.get("detail") or said.get("title") or answer.text[:300].strip())
    text = f"{text} (status {answer.status_code})"
    for error in cast("Sequence[Mapping[str, Any]]", said.get("errors") or ()):
        text += f"\n  {error.get('field')}: {error.get('message')}"
    if answer.status_code in {429, 503} and (seconds := answer.headers.get("retry-after")):
        text += f"\nTry again in {seconds} s."
    return text
