"""A server that answers in TMDB's v3 format from a local catalogue of films."""

from tmdb_standin.api import create_app
from tmdb_standin.catalogue import Catalogue, CatalogueError, Film, load_catalogue
from tmdb_standin.settings import Settings

__all__ = ["Catalogue", "CatalogueError", "Film", "Settings", "create_app", "load_catalogue"]
