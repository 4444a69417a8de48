"""From the untrusted bytes of an upload to its rows, with their line numbers, in bounded memory.

`open_table` looks at the beginning of a file and either says why it cannot be read or gives a
`Table`, to be iterated once. What is wrong with one row is given as a `BadRow` in its place, and
the rows after it are read. What ends the reading (a file cut off, a damaged or exploding archive)
raises `UnreadableFileError` after the rows that stand before it.

Everything here is synchronous and knows nothing of films: it is meant for a worker thread.
"""

from ingest_service.reading.recognition import RATINGS_1M, RATINGS_100K
from ingest_service.reading.table import Table, open_table
from ingest_service.reading.values import BadRow, JsonRow, Limits, Row, UnreadableFileError

__all__ = [
    "RATINGS_1M",
    "RATINGS_100K",
    "BadRow",
    "JsonRow",
    "Limits",
    "Row",
    "Table",
    "UnreadableFileError",
    "open_table",
]
