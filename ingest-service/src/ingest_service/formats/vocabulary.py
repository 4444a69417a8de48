"""Words of other sources → TMDB's, where both mean the same."""

from typing import Final

GENRE_NAMES: Final = {
    "Sci-Fi": "Science Fiction",
    "Children": "Family",
    "Children's": "Family",
}
"""Genres of IMDb and MovieLens that TMDB calls otherwise; so charts count them once."""
