"""Sparse matrices of float32 by rows, with the type that the checkers cannot infer."""

from typing import Any, cast

import numpy as np
from scipy.sparse import csr_array

from compute_service.recommendation.interactions import Float, Int

Matrix = csr_array[np.float32, tuple[int, int]]


def from_rows(values: Float, columns: Int, bounds: Int, shape: tuple[int, int]) -> Matrix:
    """Row i has `values[bounds[i]:bounds[i + 1]]` in as many `columns`."""
    return cast("Matrix", csr_array((values, columns, bounds), shape=shape))


def from_pairs(values: Float, rows: Int, columns: Int, shape: tuple[int, int]) -> Matrix:
    """Each value at its row and column; values of the same place are added up."""
    return csr_array((values, (rows, columns)), shape=shape)


def as_matrix(of: Any) -> Matrix:
    """A sparse result as rows of float32."""
    return cast("Matrix", csr_array(of, dtype=np.float32))


def greater_of(one: Matrix, other: Matrix) -> Matrix:
    """The greater value of each place."""
    return as_matrix(one.maximum(other))


def empty(shape: tuple[int, int]) -> Matrix:
    """All zero."""
    return cast("Matrix", csr_array(shape, dtype=np.float32))
