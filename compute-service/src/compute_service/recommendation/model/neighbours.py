"""Sparse similarities: of each film the few that are most like it.

`content_similarity` needs no history at all, so that it also reaches films and users without one.
`companions` serves the films that are watched too seldom for the dense solve.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import hstack

from compute_service.recommendation.interactions import Float, Int, Interactions
from compute_service.recommendation.model.sparse import (
    Matrix,
    as_matrix,
    empty,
    from_pairs,
    from_rows,
    greater_of,
)

Similarity = Matrix
"""(items, items), values from 0 to 1, symmetric, nothing on the diagonal."""

_BLOCK: Final = 256  # rows of a product that are held at once
_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmContent:
    """What is known of a film itself. All may be empty."""

    genres: Sequence[str] = ()
    keywords: Sequence[str] = ()
    people: Sequence[str] = ()
    text: str = ""
    year: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentOptions:
    """What each kind of content counts, and how many neighbours are kept.

    Attributes:
        genres, keywords, people, text, decade: shares; only their ratios matter.
        neighbours: of each film; a film that others name as theirs has more.
        common: words in more than this share of all texts say nothing and are left out.
        widest: of the films that share a token (a genre may be half of all), only so many, the
            first ones, can become others' neighbours by it.
    """

    genres: float = 0.3
    keywords: float = 0.25
    people: float = 0.2
    text: float = 0.2
    decade: float = 0.05
    neighbours: int = 50
    common: float = 0.1
    widest: int = 2000


def content_similarity(
    films: Sequence[FilmContent], options: ContentOptions | None = None
) -> Similarity:
    """Cosine of TF-IDF vectors: Σ_kind share · cos_kind, of each film the nearest ones.

    Each kind of content has its own space and length 1 in it, so that a film with forty keywords
    is not about its keywords only. Common tokens count less (idf = ln(films / films with it) + 1).

    Args:
        films: the most important ones first, where there are more than `widest`.

    Returns:
        (films, films). Time grows with films · (tokens of each) · `widest` at most, memory with
        films · neighbours.
    """
    options = options or ContentOptions()
    if not films:
        return empty((0, 0))
    kinds: list[tuple[float, list[list[str]], float]] = [
        (options.genres, [_tokens(film.genres) for film in films], 1.0),
        (options.keywords, [_tokens(film.keywords) for film in films], 1.0),
        (options.people, [_tokens(film.people) for film in films], 1.0),
        (options.text, [_WORD.findall(film.text.casefold()) for film in films], options.common),
        (options.decade, [_decades(film.year) for film in films], 1.0),
    ]
    total = sum(share for share, _, _ in kinds)
    spaces = [
        as_matrix(_tf_idf(tokens, common) * np.sqrt(share / total))
        for share, tokens, common in kinds
        if share > 0
    ]
    vectors = as_matrix(hstack(spaces))

    def of_others(film: int, others: Int, closeness: Float) -> Float:
        return np.where(others == film, np.float32(0), closeness)

    found = _top(vectors, _narrowed(vectors, options.widest), of_others, options.neighbours)
    return _symmetric(found)


def _narrowed(vectors: Matrix, widest: int) -> Matrix:
    """Each column without all but its first `widest` entries."""
    by_token = as_matrix(vectors.T)
    place = np.arange(by_token.nnz) - np.repeat(by_token.indptr[:-1], np.diff(by_token.indptr))
    by_token.data[place >= widest] = 0
    by_token.eliminate_zeros()
    return as_matrix(by_token.T)


def companions(
    interactions: Interactions, films: Int, *, neighbours: int = 50, shrink: float = 10.0
) -> Similarity:
    """Which films are met by the same users as `films`: n_ij / (sqrt(n_i · n_j) + shrink).

    The cosine of their users, drawn to 0 by `shrink` where few users stand behind it. Meant for
    rare films: the cost is Σ over their interactions of the user's history.

    Args:
        films: numbers of the films whose neighbours are sought, among all of `interactions`.
    """
    shape = (interactions.users, interactions.items)
    ones = np.ones(len(interactions), np.float32)
    by_film = as_matrix(from_pairs(ones, interactions.user, interactions.item, shape).T)
    length = np.sqrt(interactions.counts()).astype(np.float32)

    def shrunk(row: int, others: Int, together: Float) -> Float:
        film = films[row]
        close = together / (length[film] * length[others] + np.float32(shrink))
        return np.where(others == film, 0, close).astype(np.float32)

    found = _top(as_matrix(by_film[films]), by_film, shrunk, neighbours)
    place = from_pairs(
        np.ones(len(films), np.float32),
        films,
        np.arange(len(films)),
        (interactions.items, len(films)),
    )
    return _symmetric(as_matrix(place @ found))


def _tokens(names: Iterable[str]) -> list[str]:
    return [name.strip().casefold() for name in names if name.strip()]


def _decades(year: int | None) -> list[str]:
    return [] if year is None else [str(year // 10)]


def _tf_idf(documents: list[list[str]], common: float) -> Matrix:
    """(documents, tokens) rows of length 1 or 0; ln(1 + tf) · idf."""
    number: dict[str, int] = {}
    row: list[int] = []
    column: list[int] = []
    for index, tokens in enumerate(documents):
        for token in tokens:
            row.append(index)
            column.append(number.setdefault(token, len(number)))
    shape = (len(documents), max(len(number), 1))
    counts = from_pairs(
        np.ones(len(row), np.float32),
        np.asarray(row, np.int64),
        np.asarray(column, np.int64),
        shape,
    )
    having = np.bincount(counts.indices, minlength=shape[1])
    idf = np.log(len(documents) / np.maximum(having, 1)) + 1
    if common < 1:
        idf[having > max(common * len(documents), 1)] = 0
    counts.data = (np.log1p(counts.data) * idf[counts.indices]).astype(np.float32)
    rows = np.repeat(np.arange(shape[0]), np.diff(counts.indptr))
    length = np.sqrt(np.bincount(rows, counts.data**2, minlength=shape[0]))
    counts.data /= np.maximum(length[rows], 1e-12).astype(np.float32)
    return counts


def _top(
    rows: Matrix,
    columns: Matrix,
    adapt: Callable[[int, Int, Float], Float],
    neighbours: int,
) -> Matrix:
    """(rows, columns) with the `neighbours` greatest positive entries of each rows·columnsᵀ.

    Args:
        adapt: makes of a row, its columns and their products the values to compare.
    """
    height, width = int(rows.shape[0]), int(columns.shape[0])
    transposed = as_matrix(columns.T)
    found_columns: list[Int] = [np.empty(0, np.int64)]
    found_values: list[Float] = [np.empty(0, np.float32)]
    bounds = np.zeros(height + 1, np.int64)
    for start in range(0, height, _BLOCK):
        products = as_matrix(rows[start : start + _BLOCK] @ transposed)
        for row, (low, high) in enumerate(itertools.pairwise(products.indptr), start):
            others = products.indices[low:high].astype(np.int64)
            values = adapt(row, others, products.data[low:high])
            if len(values) > neighbours:
                best = np.argpartition(-values, neighbours - 1)[:neighbours]
                others, values = others[best], values[best]
            positive = values > 0
            found_columns.append(others[positive])
            found_values.append(values[positive])
            bounds[row + 1] = np.count_nonzero(positive)
    return from_rows(
        np.concatenate(found_values),
        np.concatenate(found_columns),
        np.cumsum(bounds),
        (height, width),
    )


def _symmetric(similarity: Matrix) -> Similarity:
    return greater_of(similarity, as_matrix(similarity.T))
