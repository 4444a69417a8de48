"""Which film a key belongs to, when films are known under several keys. No I/O.

Every film in the catalogue may *claim* other keys as its own: `imdb-tt0114709` is another name of
`tmdb-862`. What is counted under a claimed key is the film's. The claims of a film are those of
its newest version, and stay while it is removed. From them and from which keys name a film in the
catalogue, both of which are the same after the same events in any order, follows each key's film:

- A key that names a film in the catalogue gives way only to a film in the catalogue with a better
  kind of key (tmdb before imdb before movielens before title); whether the announced removal of
  the old film has come yet makes no difference then.
- Any other key follows whoever claims it: rather a film in the catalogue, then the better key.
- A film that is itself claimed passes on what is its own: title-… → imdb-… → tmdb-….
"""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from moviemetric_contracts import key_rank


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """The film `movie_id` says that it is known as `alias`, too."""

    alias: str
    movie_id: str


def films_by_key(claims: Iterable[Claim], in_catalogue: Collection[str]) -> dict[str, str]:
    """The film of every key that a claim mentions; a film that nobody else owns is its own.

    Args:
        claims: all claims that are connected with each other.
        in_catalogue: those of the keys that name a film in the catalogue.
    """
    known = frozenset(in_catalogue)
    claimants: dict[str, list[str]] = {}
    for claim in claims:
        claimants.setdefault(claim.movie_id, [])
        claimants.setdefault(claim.alias, []).append(claim.movie_id)
    owners = {
        key: owner
        for key, films in claimants.items()
        if (owner := _owner(key, films, known)) is not None
    }
    return {key: _follow(key, owners) for key in claimants}


def _owner(key: str, films: Collection[str], in_catalogue: Set[str]) -> str | None:
    if key in in_catalogue:
        films = [film for film in films if film in in_catalogue and key_rank(film) < key_rank(key)]
    return min(films, key=lambda film: (film not in in_catalogue, _goodness(film)), default=None)


def _follow(key: str, owners: dict[str, str]) -> str:
    path = [key]
    while (owner := owners.get(path[-1])) is not None:
        if owner in path:
            # Films that claim each other, none of which is in the catalogue any more.
            return min(path[path.index(owner) :], key=_goodness)
        path.append(owner)
    return path[-1]


def _goodness(key: str) -> tuple[int, int, str]:
    """Smaller is better; of two keys of a kind the one with the lower number."""
    return key_rank(key), len(key), key
