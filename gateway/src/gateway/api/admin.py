"""Routes for operators, on one router, so that they can be closed together.

`OPERATORS_ONLY` are the dependencies that every such request passes first.
"""

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, params

from gateway.prefixes import API_PREFIX

OPERATORS_ONLY: Final[Sequence[params.Depends]] = ()


def operators_router() -> APIRouter:
    """An empty router for them; its routes are taken over into the public one."""
    return APIRouter(prefix=API_PREFIX, dependencies=OPERATORS_ONLY)
