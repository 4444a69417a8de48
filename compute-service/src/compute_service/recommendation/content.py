"""How alike films are by what they are about, one by one, for films that no model has. No I/O.

    closeness(a, b) = Σ_kind share · |a ∩ b| / sqrt(|a|·|b|) / Σ_kind share

over genres, keywords and people, and a little for the same decade and language; Σ over the kinds
of which anything is known of `a`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final, Protocol

import numpy as np

from compute_service.recommendation.interactions import Float

GENRES: Final = 0.35
KEYWORDS: Final = 0.3
PEOPLE: Final = 0.25
DECADE: Final = 0.05
LANGUAGE: Final = 0.05


class Described(Protocol):
    """What is known of a film."""

    @property
    def genres(self) -> Sequence[str]:
        """By their names."""
        ...

    @property
    def keywords(self) -> Sequence[str]:
        """What it is about."""
        ...

    @property
    def people(self) -> Sequence[str]:
        """Directors and actors."""
        ...

    @property
    def release_year(self) -> int | None:
        """None where it is not known."""
        ...

    @property
    def original_language(self) -> str | None:
        """None where it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """A film's names of each kind, by how they are compared: `{folded: name}`."""

    genres: dict[str, str] = field(default_factory=dict[str, str])
    keywords: dict[str, str] = field(default_factory=dict[str, str])
    people: dict[str, str] = field(default_factory=dict[str, str])
    decade: int | None = None
    language: str | None = None

    @classmethod
    def of(cls, film: Described) -> "Traits":
        """What a film has."""
        return cls(
            _folded(film.genres),
            _folded(film.keywords),
            _folded(film.people),
            None if film.release_year is None else film.release_year // 10,
            film.original_language,
        )

    def closeness(self, other: "Traits") -> float:
        """From 0 to 1; not the same in both directions where one film has more kinds."""
        total = close = 0.0
        for share, own, others in (
            (GENRES, self.genres, other.genres),
            (KEYWORDS, self.keywords, other.keywords),
            (PEOPLE, self.people, other.people),
        ):
            if own:
                total += share
                if common := len(own.keys() & others.keys()):
                    close += share * common / sqrt(len(own) * len(others))
        for share, mine, theirs in (
            (DECADE, self.decade, other.decade),
            (LANGUAGE, self.language, other.language),
        ):
            if mine is not None:
                total += share
                close += share * (mine == theirs)
        return close / total if total else 0.0

    def shared(self, other: "Traits", limit: int = 5) -> dict[str, list[str]]:
        """What both have, by kind; kinds without anything are left out."""
        found = {
            "genres": [name for key, name in self.genres.items() if key in other.genres],
            "keywords": [name for key, name in self.keywords.items() if key in other.keywords],
            "people": [name for key, name in self.people.items() if key in other.people],
        }
        return {kind: names[:limit] for kind, names in found.items() if names}


def alike(films: Sequence[Traits]) -> Float:
    """(n, n) from 0 to 1: the cosine over genres, keywords and people together."""
    number: dict[tuple[str, str], int] = {}
    cells: list[tuple[int, int, float]] = []
    for row, film in enumerate(films):
        for kind, share, names in (
            ("genre", GENRES, film.genres),
            ("keyword", KEYWORDS, film.keywords),
            ("person", PEOPLE, film.people),
        ):
            length = sqrt(share / len(names)) if names else 0.0
            cells += [(row, number.setdefault((kind, name), len(number)), length) for name in names]
    vectors = np.zeros((len(films), len(number)), np.float32)
    if cells:
        rows, columns, values = zip(*cells, strict=True)
        vectors[list(rows), list(columns)] = values
    lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    vectors /= np.maximum(lengths, np.float32(1e-6))
    return vectors @ vectors.T


def _folded(names: Sequence[str]) -> dict[str, str]:
    return {name.casefold(): name for name in names}
