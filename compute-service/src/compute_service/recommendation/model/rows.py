"""What of a fitted model is stored: of each film its strongest weights and its neighbours.

The weights of the linear model are (films, films) twice, dense. Most of them are close to nothing:
on MovieLens' validation parts NDCG@10 with the `KEPT` strongest of each row is within 0.001 of
that with all, by the greater of both weights' absolute values, after the factor (1 - c).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from compute_service.recommendation.interactions import Float, Int
from compute_service.recommendation.model.recommender import Recommender
from compute_service.recommendation.scoring import FilmRow, Number, Scorer

KEPT: Final = 800
SIMILAR: Final = 50


def scorer_of(recommender: Recommender) -> Scorer:
    """What is stored once."""
    linear = recommender.linear
    return Scorer(
        short=recommender.long if linear is None else linear.short,
        long=recommender.long,
        scale=recommender.scale,
        popularity=recommender.popularity,
    )


def rows(recommender: Recommender, kept: int = KEPT) -> Iterator[FilmRow]:
    """The row of each film, by number."""
    linear, similarity = recommender.linear, recommender.similarity
    c = recommender.trust_in_neighbours
    certain = 1 - c[recommender.dense]
    nothing = np.empty(0, np.float32)
    for film in range(len(recommender.popularity)):
        low, high = similarity.indptr[film], similarity.indptr[film + 1]
        near = similarity.indices[low:high]
        closeness = c[near] * np.float32(recommender.scale) * similarity.data[low:high]
        place = int(recommender.position[film])
        if linear is None or place < 0:
            row = (nothing.astype(np.int32), nothing, nothing)
        else:
            row = _strongest(
                certain * linear.short_weights[place],
                certain * linear.long_weights[place],
                recommender.dense,
                kept,
            )
        yield FilmRow(film, place >= 0, *row, near.astype(np.int32), closeness.astype(np.float32))


def _strongest(short: Float, long: Float, numbers: Int, kept: int) -> tuple[Number, Float, Float]:
    strength = np.maximum(np.abs(short), np.abs(long))
    if len(strength) > kept:
        chosen = np.sort(np.argpartition(-strength, kept - 1)[:kept])
    else:
        chosen = np.arange(len(strength))
    chosen = chosen[strength[chosen] > 0]
    return numbers[chosen].astype(np.int32), short[chosen], long[chosen]
