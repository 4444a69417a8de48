"""From the rows of an upload to what they say: which format a file is of, and how it is read.

`recognise` finds the format by the names of the columns and binds it to the file. `FilmFormat.read`
then makes of each row a `SourceRecord`, `RatingFormat.read` a `StarRating`; or a `Rejection` that
says which column is wrong and what was expected there, or a `Skipped` for a row that is right and
says nothing. Pure: no I/O, no clock.
"""

from ingest_service.formats.cells import escaped_cell
from ingest_service.formats.columns import Format, FormatInfo
from ingest_service.formats.films import FilmFormat
from ingest_service.formats.ratings import RatingFormat, StarRating
from ingest_service.formats.recognition import AUTO, FORMATS, UnknownFormatError, recognise

__all__ = [
    "AUTO",
    "FORMATS",
    "FilmFormat",
    "Format",
    "FormatInfo",
    "RatingFormat",
    "StarRating",
    "UnknownFormatError",
    "escaped_cell",
    "recognise",
]
