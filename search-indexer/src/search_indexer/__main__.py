"""`python -m search_indexer` runs the service; with `migrate` it brings the schema up to date."""

from service_kit import main

from search_indexer.bootstrap import NAME, bootstrap
from search_indexer.settings import SearchSettings

if __name__ == "__main__":
    main(NAME, SearchSettings, bootstrap)
