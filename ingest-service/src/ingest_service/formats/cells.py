"""One cell → one field of a film, as a JSON value; None for what is unknown.

Each kind of cell reads a text (from CSV and TSV) and a JSON value (from JSON). A value that cannot
be right is refused with what was expected; what the source writes for "unknown" (an empty cell,
`nan`, 0 for a budget) is None. Texts are cut to the limits of the contract.

Cells that begin with `=`, `+`, `-`, `@`, a tab or a carriage return are taken for formulas by
spreadsheets. CSV that is given out has them escaped by an apostrophe (`escaped_cell`), and what is
read has exactly this escape taken off, so that rows can go out, be mended and come back.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar, cast

from moviemetric_contracts import MAX_TMDB_ID

from ingest_service.formats.countries import country_code
from ingest_service.formats.languages import language_code
from ingest_service.formats.literals import parse_literal
from ingest_service.tmdb_movie import KEY_JOBS, MAX_CAST, MAX_CREW

NAME: Final = 200  # the contract's limits
SHORT: Final = 1_000
LONG: Final = 20_000
LONGEST_ADDRESS: Final = 2_000

FIRST_YEAR: Final = 1870
LAST_YEAR: Final = 2200
MAX_RUNTIME: Final = 100_000
MAX_MONEY: Final = 10**12
MAX_VOTES: Final = 10**9
MAX_POPULARITY: Final = 10**6
MAX_ID: Final = 2**31 - 1

UNKNOWN: Final = frozenset({"", "\\N", "nan", "NaN", "None", "null", "N/A"})
# IMDb lists a film whose title is "None".
UNKNOWN_AT_IMDB: Final = frozenset({"", "\\N"})

_FORMULA: Final = frozenset("=+-@\t\r")
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0", "0.0"})
_LONGEST_NUMBER: Final = 40
_LONGEST_REPEATED: Final = 200  # a longer list is not worth remembering
_REMEMBERED: Final = 4_096
_SHOWN: Final = 80
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_JOB_RANK: Final = {job: rank for rank, job in enumerate(KEY_JOBS)}

T = TypeVar("T")


class CellError(ValueError):
    """A cell that cannot be right.

    Attributes:
        field: of which field, where it is not the one that was being read.
    """

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(reason)


class Kind(NamedTuple):
    """How a kind of cell is read: a text, and a JSON value that is neither null nor text."""

    text: Callable[[str], object]
    native: Callable[[object], object]


def escaped_cell(text: str) -> str:
    """A cell for a CSV that is given out: no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in _FORMULA else text


def plain(cell: str) -> str:
    """A cell as it was before `escaped_cell`, without surrounding blanks."""
    text = cell.strip()
    if text[:1] == "'" and text[1:2] in _FORMULA:
        return text[1:].strip()
    return text


def storable(text: str) -> str:
    """Without what PostgreSQL or UTF-8 cannot hold: U+0000 and lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "ignore").decode()
    return text


def expected(what: str, got: object) -> CellError:
    """The complaint about a value, which is shown in part."""
    text = got if isinstance(got, str) else _written(got)
    if not text.strip():
        return CellError(f"expected {what}, the cell is empty")
    shown = repr(text[:_SHOWN])
    return CellError(f"expected {what}, got {shown}{'…' if len(text) > _SHOWN else ''}")


def _written(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # what only a Python literal can express
        return repr(value)


# Texts


def text_kind(longest: int, *, unknown: frozenset[str] = UNKNOWN, required: str = "") -> Kind:
    """A text of at most `longest` characters; `required` names what must not be missing."""

    def read(cell: str) -> str | None:
        text = cell.strip()
        if text[:1] == "'":
            text = plain(text)
        if not text.isascii() or "\x00" in text:
            text = storable(text).strip()
        if text in unknown:
            if required:
                raise expected(required, text)
            return None
        return text if len(text) <= longest else text[:longest].rstrip()

    def native(value: object) -> str | None:
        # 1776 and 1941 are titles.
        if isinstance(value, int | float) and not isinstance(value, bool):
            return read(str(value))
        raise expected(required or "a text", value)

    return Kind(read, native)


def _mapped(kind: Kind, change: Callable[[str], str | None]) -> Kind:
    def text(cell: str) -> str | None:
        value = kind.text(cell)
        return change(value) if isinstance(value, str) else None

    def native(value: object) -> str | None:
        value = kind.native(value)
        return change(value) if isinstance(value, str) else None

    return Kind(text, native)


def remembered(kind: Kind) -> Kind:
    """For values that are short and repeat. A text that is refused is not remembered."""
    return Kind(lru_cache(maxsize=_REMEMBERED)(kind.text), kind.native)


def _web_address(text: str) -> str | None:
    good = len(text) <= LONGEST_ADDRESS and text.lower().startswith(("http://", "https://"))
    return text if good else None


def _image_path(text: str) -> str | None:
    return text if text.startswith("/") and len(text) <= NAME else None


def _language(text: str) -> str:
    code = language_code(text)
    if code is None:
        raise expected("a language's code such as en, or its name", text)
    return code


def _status(cell: str) -> str | None:
    text = _SHORT_TEXT.text(cell)
    if isinstance(text, str) and len(text) > NAME:
        raise expected("a short text such as Released", text)
    return cast("str | None", text)


_SHORT_TEXT: Final = text_kind(SHORT)
HOMEPAGE: Final = _mapped(text_kind(LONG), _web_address)
IMAGE_PATH: Final = _mapped(text_kind(LONG), _image_path)
LANGUAGE: Final = remembered(_mapped(_SHORT_TEXT, _language))
STATUS: Final = remembered(Kind(_status, _SHORT_TEXT.native))
TITLE: Final = text_kind(SHORT, required="a title")


# Numbers


def _number(text: str, what: str) -> float:
    # float() takes "1_000", "infinity" and the digits of every script as well.
    if len(text) <= _LONGEST_NUMBER and text.isascii() and "_" not in text:
        if text.isdigit():
            return int(text)
        try:
            number = float(text)
        except ValueError:
            pass
        else:
            if math.isfinite(number):
                return number
    raise expected(what, text)


def _json_number(value: object, what: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected(what, value)
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise expected(what, value)
    return value


def number_kind(what: str, accept: Callable[[float, object], object]) -> Kind:
    """A number that `accept` makes a value of; it is given the cell as well, to complain of."""

    def read(cell: str) -> object:
        text = plain(cell)
        return None if text in UNKNOWN else accept(_number(text, what), text)

    def native(value: object) -> object:
        number = _json_number(value, what)
        return None if number is None else accept(number, value)

    return Kind(read, native)


def whole_kind(what: str, most: int) -> Kind:
    """A whole number in 1..`most`; 0 is unknown."""
    full = f"{what} from 0 to {most:,}"

    def accept(number: float, got: object) -> int | None:
        if not 0 <= number <= most or number != int(number):
            raise expected(full, got)
        return int(number) or None

    return _soon(number_kind(full, accept), 0, most)


def real_kind(what: str, most: int) -> Kind:
    """A number in 0..`most`; 0 is unknown."""
    full = f"{what} from 0 to {most:,}"

    def accept(number: float, got: object) -> float | None:
        if not 0 <= number <= most:
            raise expected(full, got)
        return float(number) or None

    return number_kind(full, accept)


def id_kind(what: str, most: int = MAX_ID) -> Kind:
    """A whole number in 1..`most`, also written as a float (`862.0`)."""

    def accept(number: float, got: object) -> int:
        if not 1 <= number <= most or number != int(number):
            raise expected(what, got)
        return int(number)

    return _soon(number_kind(what, accept), 1, most)


def _soon(kind: Kind, least: int, most: int) -> Kind:
    """`kind` with a short way for whole numbers that are written as most are; 0 is unknown."""
    careful = kind.text

    def read(cell: str) -> object:
        try:
            number = float(cell)
        except ValueError:
            return careful(cell)
        if least <= number <= most and cell.isascii() and "_" not in cell and len(cell) <= 20:
            whole = int(number)
            if whole == number:
                return whole or None
        return careful(cell)

    return Kind(read, kind.native)


def _year(number: float, got: object) -> str | None:
    # IMDb and MovieLens know a year only. Films have a date and charts go by its year, so the
    # first of January stands for an unknown day.
    if not FIRST_YEAR <= number <= LAST_YEAR or number != int(number):
        raise expected(f"a year from {FIRST_YEAR} to {LAST_YEAR}", got)
    return f"{int(number)}-01-01"


RUNTIME: Final = remembered(whole_kind("a whole number of minutes", MAX_RUNTIME))
MONEY: Final = whole_kind("a whole number of US dollars", MAX_MONEY)
VOTE_COUNT: Final = whole_kind("a whole number of votes", MAX_VOTES)
VOTE_AVERAGE: Final = remembered(real_kind("an average", 10))
POPULARITY: Final = real_kind("a popularity", MAX_POPULARITY)
YEAR: Final = remembered(number_kind("a year", _year))
TMDB_ID: Final = id_kind("a TMDB id such as 862", MAX_TMDB_ID)
MOVIELENS_ID: Final = id_kind("a MovieLens id such as 1")


def _imdb_text(cell: str) -> str | None:
    text = plain(cell)
    if text in UNKNOWN:
        return None
    digits = text[2:] if text[:2].lower() == "tt" else text.removesuffix(".0")
    if digits.isascii() and digits.isdigit():
        number = digits.lstrip("0")
        if number and len(number) <= 10:
            return f"tt{number.zfill(7)}"
    raise expected("an IMDb id such as tt0114709", text)


def _imdb_native(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _imdb_text(str(value))
    raise expected("an IMDb id such as tt0114709", value)


IMDB_ID: Final = Kind(_imdb_text, _imdb_native)


def needed(kind: Kind, what: str) -> Kind:
    """`kind`, but a cell that holds nothing is refused."""

    def read(cell: str) -> object:
        if (value := kind.text(cell)) is None:
            raise expected(what, cell)
        return value

    def native(value: object) -> object:
        if (found := kind.native(value)) is None:
            raise expected(what, value)
        return found

    return Kind(read, native)


NEEDED_TMDB_ID: Final = needed(TMDB_ID, "a TMDB id such as 862")
NEEDED_IMDB_ID: Final = needed(IMDB_ID, "an IMDb id such as tt0114709")
NEEDED_MOVIELENS_ID: Final = needed(MOVIELENS_ID, "a MovieLens id such as 1")


# Booleans and dates


def _flag(cell: str) -> bool | None:
    text = plain(cell)
    word = text.lower() if len(text) <= _LONGEST_NUMBER else text
    if word in _TRUE:
        return True
    if word in _FALSE or text in UNKNOWN:
        return None
    raise expected("True or False", text)


def _json_flag(value: object) -> bool | None:
    if value in (0, 1):
        return bool(value) or None
    raise expected("true or false", value)


FLAG: Final = remembered(Kind(_flag, _json_flag))
"""True or nothing: no and unknown are the same."""


def calendar_day(text: str) -> str | None:
    """`text` if it is a day in the years of film, written `YYYY-MM-DD`."""
    if len(text) != 10 or not text.isascii() or text[4] != "-" or text[7] != "-":
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return text if FIRST_YEAR <= day.year <= LAST_YEAR else None


def _date(cell: str) -> str | None:
    if (day := calendar_day(cell)) is not None:
        return day
    text = plain(cell)
    if text in UNKNOWN:
        return None
    if (day := calendar_day(text)) is None:
        raise expected(
            f"a day that exists, as YYYY-MM-DD, in the years {FIRST_YEAR} to {LAST_YEAR}", text
        )
    return day


def _english_date(cell: str) -> str | None:
    text = plain(cell)
    if text in UNKNOWN:
        return None
    day, _, rest = text.partition("-")
    month, _, year = rest.partition("-")
    number = _MONTHS.get(month.lower(), 0)
    if (found := calendar_day(f"{year}-{number:02d}-{day.zfill(2)}")) is None:
        raise expected("a day that exists, such as 01-Jan-1995", text)
    return found


def _no_json_date(value: object) -> None:
    raise expected("a day as YYYY-MM-DD", value)


DATE: Final = Kind(_date, _no_json_date)
ENGLISH_DATE: Final = Kind(_english_date, _no_json_date)


# Lists


def _list_of(value: object, what: str) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return cast("Sequence[object]", value)
    raise expected(what, value)


def _item_text(item: object, longest: int, *keys: str) -> str | None:
    value: object = item
    if isinstance(item, dict):
        record = cast("dict[object, object]", item)
        value = next((record[key] for key in keys if record.get(key)), None)
    return storable(value).strip()[:longest].rstrip() or None if isinstance(value, str) else None


# The film with the most keywords at TMDB has some 200.
MAX_NAMES: Final = 500


def _list_kind(
    what: str, take: Callable[[object], str | None], *, separator: str | None = None
) -> Kind:
    def distinct(items: Sequence[object], got: object) -> list[str] | None:
        found: dict[str, None] = {}
        for item in items:
            if not isinstance(item, str | dict):
                raise expected(what, got)
            if (name := take(cast("object", item))) is not None:
                found[name] = None
        if len(found) > MAX_NAMES:
            raise CellError(f"expected {what} of {MAX_NAMES} names at most, got {len(found):,}")
        return list(found) or None

    def native(value: object) -> list[str] | None:
        if isinstance(value, dict):  # TMDB wraps the lists that it appends
            wrapper = cast("dict[object, object]", value)
            key = "keywords" if "keywords" in wrapper else "results"
            return distinct(_list_of(wrapper.get(key, wrapper), what), wrapper)
        return distinct(_list_of(value, what), value)

    def parse(cell: str) -> list[str] | None:
        text = plain(cell)
        if text in UNKNOWN:
            return None
        if separator is not None and not text.startswith("["):
            return distinct(text.split(separator), text)
        return native(parsed(text, what))

    remembered = lru_cache(maxsize=_REMEMBERED)(parse)

    def read(cell: str) -> list[str] | None:
        if len(cell) > _LONGEST_REPEATED:
            return parse(cell)
        found = remembered(cell)
        return found.copy() if found is not None else None

    return Kind(read, native)


def parsed(text: str, what: str) -> object:
    """The JSON or Python literal in a cell; `what` was expected there."""
    try:
        return parse_literal(text)
    except ValueError as error:
        raise expected(what, text) from error


def _take_name(item: object) -> str | None:
    return _item_text(item, NAME, "name")


def _take_language(item: object) -> str | None:
    text = _item_text(item, NAME, "iso_639_1", "name")
    return language_code(text) if text is not None else None


def _take_country(item: object) -> str | None:
    text = _item_text(item, NAME, "iso_3166_1", "name")
    return country_code(text) if text is not None else None


def names_kind(*, separator: str | None = None, renamed: Mapping[str, str] | None = None) -> Kind:
    """A list of names, or of objects with a `name`; in the order given, each once."""
    what = _list_words("names", "['Comedy', 'Drama']", "Comedy|Drama", separator)
    if renamed is None:
        return _list_kind(what, _take_name, separator=separator)

    def take(item: object) -> str | None:
        name = _take_name(item)
        return renamed.get(name, name) if name is not None else None

    return _list_kind(what, take, separator=separator)


def languages_kind(*, separator: str | None = None) -> Kind:
    """A list of languages, by code or by name; names that nobody knows are left out."""
    what = _list_words("languages", "['English', 'Français']", "en|fr", separator)
    return _list_kind(what, _take_language, separator=separator)


def countries_kind(*, separator: str | None = None) -> Kind:
    """A list of countries, by code or by name; names that nobody knows are left out."""
    what = _list_words("countries", "['US', 'FR']", "US|FR", separator)
    return _list_kind(what, _take_country, separator=separator)


def _list_words(what: str, listed: str, separated: str, separator: str | None) -> str:
    return f"a list of {what} such as {listed}" + (f" or {separated}" if separator else "")


def _collection(value: object) -> str | None:
    if isinstance(value, dict):
        return _item_text(cast("object", value), SHORT, "name")
    raise expected("an object with a name such as {'name': 'Toy Story Collection'}", value)


def _collection_text(cell: str) -> str | None:
    text = plain(cell)
    if text in UNKNOWN:
        return None
    return _collection(parsed(text, "an object with a name such as {'name': 'Toy Story'}"))


COLLECTION: Final = Kind(_collection_text, _collection)


# People


def _whole_or_none(value: object, most: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= most and value == int(value) else None


def _people_kind(
    what: str, collect: Callable[[Sequence[object]], list[T]], *, separator: str | None = None
) -> Kind:
    def native(value: object) -> list[T] | None:
        items = _list_of(value, what)
        if not all(isinstance(item, str | dict) for item in items):
            raise expected(what, value)
        return collect(items) or None

    def read(cell: str) -> list[T] | None:
        text = plain(cell)
        if text in UNKNOWN:
            return None
        if separator is not None and not text.startswith("["):
            return collect(text.split(separator)) or None
        return native(parsed(text, what))

    return Kind(read, native)


def _person_id(person: Mapping[object, object]) -> int | None:
    return _whole_or_none(person.get("id", person.get("tmdb_person_id")), MAX_ID) or None


def _cast_members(items: Sequence[object]) -> list[dict[str, object]]:
    members: list[dict[str, object]] = []
    for index, item in enumerate(items):
        name = _item_text(item, NAME, "name")
        if name is None:
            continue
        person = cast("dict[object, object]", item) if isinstance(item, dict) else {}
        order = _whole_or_none(person.get("order"), 1_000_000)
        character = person.get("character")
        members.append(
            {
                "name": name,
                "character": _item_text(character, SHORT) or "",
                "order": index if order is None else order,
                "tmdb_person_id": _person_id(person),
            }
        )
    return sorted(members, key=lambda member: cast("int", member["order"]))[:MAX_CAST]


def _crew_members(items: Sequence[object]) -> list[dict[str, object]]:
    members: dict[tuple[object, ...], dict[str, object]] = {}
    for item in items:
        name = _item_text(item, NAME, "name")
        if name is None:
            continue
        person = cast("dict[object, object]", item) if isinstance(item, dict) else {}
        job = _item_text(person.get("job"), SHORT) or ""
        if person and job not in _JOB_RANK:
            continue
        member: dict[str, object] = {
            "name": name,
            "job": job,
            "department": _item_text(person.get("department"), SHORT) or "",
            "tmdb_person_id": _person_id(person),
        }
        members.setdefault(tuple(member.values()), member)
    ranked = sorted(
        members.values(),
        key=lambda member: _JOB_RANK.get(cast("str", member["job"]), len(_JOB_RANK)),
    )
    return ranked[:MAX_CREW]


def cast_kind(*, separator: str | None = None) -> Kind:
    """Actors as TMDB lists them: the first 30 by billing."""
    what = "a list of objects with name, character and order"
    return _people_kind(what, _cast_members, separator=separator)


def crew_kind(*, separator: str | None = None) -> Kind:
    """The crew as TMDB lists it: at most 30, of the jobs that are kept, directors first."""
    what = "a list of objects with name, job and department"
    return _people_kind(what, _crew_members, separator=separator)
