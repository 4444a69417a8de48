"""From the rows of an upload to `SourceRecord`s: which format a file is of, and how it is read.

`recognise` finds the format by the names of the columns and binds it to the file; `Format.read`
then makes of each row a record, a `Rejection` that says which column is wrong and what was expected
there, or a `Skipped` for a row that is right and no film. Pure: no I/O, no clock.
"""

from ingest_service.formats.cells import escaped_cell
from ingest_service.formats.columns import Format, FormatInfo
from ingest_service.formats.recognition import AUTO, FORMATS, UnknownFormatError, recognise

__all__ = [
    "AUTO",
    "FORMATS",
    "Format",
    "FormatInfo",
    "UnknownFormatError",
    "escaped_cell",
    "recognise",
]
