"""Runs the stand-in: ``python -m tmdb_standin``. Ends with exit status 0 on SIGTERM or SIGINT."""

import signal
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from tmdb_standin.api import create_app
from tmdb_standin.catalogue import CatalogueError
from tmdb_standin.settings import Settings


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    # uvicorn hands the signal on after its own shutdown; the default action would be to die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        settings = Settings()
        app = create_app(settings)
    except (CatalogueError, ValidationError) as problem:
        sys.exit(f"tmdb_standin: {problem}")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
