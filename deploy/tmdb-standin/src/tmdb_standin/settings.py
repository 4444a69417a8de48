"""Settings, read from the environment as ``TMDB_STANDIN_<NAME>``."""

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_SAMPLE = Path("sample-catalogue") / "movies.jsonl"


def sample_catalogue() -> Path | None:
    """The sample catalogue of the repository this package, or the working folder, is in."""
    here = Path(__file__).resolve().parents
    places = [*here, *(folder / "deploy" for folder in (Path.cwd(), *Path.cwd().parents))]
    return next((place / _SAMPLE for place in places if (place / _SAMPLE).is_file()), None)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TMDB_STANDIN_")

    host: str = "127.0.0.1"
    port: int = Field(default=8105, ge=0, le=65535)
    catalogue: Path | None = Field(default_factory=sample_catalogue)
    """A catalogue in the sample's JSONL format, or a folder of TMDB detail bodies."""
    catalogue_day: date | None = None
    """The day that now_playing and upcoming count as today. Default: three weeks before the
    newest release in the catalogue, so that both lists have films."""
    api_key: str | None = None
    """The only accepted key. Default: every key that is not empty and not in `invalid_keys`."""
    invalid_keys: Annotated[frozenset[str], NoDecode] = frozenset({"wrong", "invalid"})
    """Keys answered 401, separated by commas."""

    @field_validator("invalid_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("api_key", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    def accepts_key(self, key: str) -> bool:
        if not key or key in self.invalid_keys:
            return False
        return self.api_key is None or key == self.api_key
