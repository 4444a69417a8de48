"""Which film a key names, when films are known under several keys. No I/O.

A version of a film lists other keys that name it: it *claims* them. What is rated under a claimed
key is the film's. Keys that once belong together never part, so a claim counts for ever, whichever
version of the film made it; of several claims of one key the best-ranked film's counts (tmdb before
imdb before movielens before title, of two of a kind the lower number). That is a minimum, and so
the same in any order of the versions.

A film that is itself claimed passes on what is its own: title-… → imdb-… → tmdb-…. Only better
kinds of keys can claim a key, so every such chain ends.
"""

from collections.abc import Mapping

from moviemetric_contracts import key_rank


def may_claim(movie_id: str, alias: str) -> bool:
    """Whether the film's key is of a better kind."""
    return key_rank(movie_id) < key_rank(alias)


def is_better(movie_id: str, than: str | None) -> bool:
    """Whether of two films that claim a key this one gets it."""
    return than is None or _goodness(movie_id) < _goodness(than)


def film_of(key: str, claimed_by: Mapping[str, str | None]) -> str:
    """The film's own key, at the end of the chain of those who claim it."""
    while (owner := claimed_by.get(key)) is not None:
        key = owner
    return key


def _goodness(key: str) -> tuple[int, int, str]:
    """Smaller is better."""
    return key_rank(key), len(key), key
