"""MovieLens (GroupLens): who rated which film with how many stars, and when.

    ratings.csv   userId, movieId, rating, timestamp
    ratings.dat   the same, of ml-1m
    u.data        the same, of ml-100k, which numbers its films anew as well

Each set numbers its users anew. So the ids of the users of ml-1m and ml-100k bear the name of the
set, and so do the columns that `reading` gives their files, which have no header: rejected rows
that are given out as CSV and come back are still those of their set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ingest_service.formats import cells
from ingest_service.formats.cells import Kind
from ingest_service.formats.columns import Column, Fields, Format, Spec, normal
from ingest_service.reading import RATINGS_1M, RATINGS_100K

FILM: Final = "film"
TIME: Final = "time"
_USER: Final = "user"
_SCORE: Final = "score"

_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class StarRating(NamedTuple):
    """One row, normalised.

    Attributes:
        user_id: no other user of any set has it.
        film: the film's number in the set.
        score: 1 to 10, twice the stars.
        rated_at: seconds since 1970 in UTC.
    """

    user_id: str
    film: int
    score: int
    rated_at: int


@dataclass(frozen=True, kw_only=True)
class RatingSpec(Spec[StarRating]):
    """A format of ratings, before it is bound to a file.

    Attributes:
        items: whether films go by numbers of this set alone, which its u.item explains.
    """

    items: bool = False


class RatingFormat(Format[StarRating]):
    """How the rows of one file of ratings are read."""

    def __init__(self, spec: RatingSpec, header: Sequence[str], *, objects: bool) -> None:
        super().__init__(spec, header, objects=objects)
        self.items: Final = spec.items


def _stars() -> Kind:
    what = "0.5 to 5 stars in halves"

    def score(stars: float, got: object) -> int:
        if not 0.5 <= stars <= 5 or stars * 2 != int(stars * 2):
            raise cells.expected(what, got)
        return int(stars * 2)

    return cells.needed(cells.remembered(cells.number_kind(what, score)), what)


def _whole(what: str, most: int = cells.MAX_ID) -> Kind:
    return cells.needed(cells.id_kind(what, most), what)


def _finish(users: str) -> Callable[[Fields], StarRating]:
    def finish(fields: Fields) -> StarRating:
        user_id = f"{users}{fields[_USER]}"
        return StarRating(user_id, fields[FILM], fields[_SCORE], fields[TIME])

    return finish


def _spec(columns: Sequence[str], *, users: str, items: bool = False) -> RatingSpec:
    user, film, rating, time = map(normal, columns)
    return RatingSpec(
        name="movielens-ratings",
        title="MovieLens ratings",
        description=(
            "ratings.csv of MovieLens, ratings.dat of ml-1m, and u.data of ml-100k, whose films "
            "are those of its u.item, which has to be imported before. They become ratings of "
            "users movielens-1, movielens-1m-1 and movielens-100k-1 with the time that is in the "
            "file, and twice the stars as score."
        ),
        required=(user, film, rating, time),
        columns=(
            Column(user, _USER, _whole("a user's number such as 1")),
            Column(film, FILM, _whole("a MovieLens id such as 1")),
            Column(rating, _SCORE, _stars()),
            Column(time, TIME, _whole("seconds since 1970 such as 964982703", _LAST_SECOND)),
        ),
        finish=_finish(users),
        items=items,
    )


RATINGS: Final = _spec(("userId", "movieId", "rating", "timestamp"), users="movielens-")
RATINGS_OF_1M: Final = _spec(RATINGS_1M, users="movielens-1m-")
RATINGS_OF_100K: Final = _spec(RATINGS_100K, users="movielens-100k-", items=True)
