"""The HTTP API: TMDB's v3 routes under `/3`."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from tmdb_standin import control, shapes
from tmdb_standin.catalogue import Catalogue, Film, load_catalogue
from tmdb_standin.control import StandinDep
from tmdb_standin.queries import (
    Test,
    TmdbError,
    appended,
    changes_range,
    discover_tests,
    not_adult,
    page_number,
    search_tests,
    sort_order,
)
from tmdb_standin.settings import Settings
from tmdb_standin.shapes import Body
from tmdb_standin.traffic import API_PREFIX, Front, Standin, TmdbResponse, refusal

_TOP_RATED_VOTES: Final = 200
_NOW_PLAYING: Final = timedelta(days=42)
_UPCOMING: Final = timedelta(days=21)

router = APIRouter(prefix=API_PREFIX.rstrip("/"))


def create_app(settings: Settings, catalogue: Catalogue | None = None) -> FastAPI:
    """The stand-in as an ASGI application, reading the catalogue that the settings name unless one
    is given. Raises CatalogueError where it cannot be read."""
    films = load_catalogue(settings.catalogue) if catalogue is None else catalogue
    app = FastAPI(title="TMDB stand-in", openapi_url=None, redirect_slashes=False)
    app.state.standin = Standin(settings, films)
    app.include_router(router)
    app.include_router(control.router)
    app.add_middleware(Front, standin=app.state.standin)
    app.add_exception_handler(TmdbError, _tmdb_error)
    app.add_exception_handler(HTTPException, _http_error)
    return app


@router.get("/movie/popular")
async def popular(standin: StandinDep, request: Request) -> Response:
    return _film_list(request, _by_popularity(standin), [not_adult])


@router.get("/movie/top_rated")
async def top_rated(standin: StandinDep, request: Request) -> Response:
    films = standin.catalogue.ordered("vote_average.desc")
    return _film_list(request, films, [not_adult, lambda film: film.vote_count >= _TOP_RATED_VOTES])


@router.get("/movie/now_playing")
async def now_playing(standin: StandinDep, request: Request) -> Response:
    return _released(standin, request, -_NOW_PLAYING, timedelta(0))


@router.get("/movie/upcoming")
async def upcoming(standin: StandinDep, request: Request) -> Response:
    return _released(standin, request, timedelta(0), _UPCOMING)


@router.get("/movie/changes")
async def changes(standin: StandinDep, request: Request) -> Response:
    number = page_number(request.query_params)
    first, last = changes_range(request.query_params, datetime.now(UTC).date())
    found = sorted(
        film_id for film_id, day in standin.changed.items() if str(first) <= day <= str(last)
    )
    size = shapes.CHANGES_PAGE_SIZE
    films = standin.catalogue.films
    shown = [
        shapes.change_item(film_id, films[film_id].body if film_id in films else None)
        for film_id in found[(number - 1) * size : number * size]
    ]
    return TmdbResponse(shapes.page(shown, number, len(found), size=size))


@router.get("/movie/latest")
async def latest(standin: StandinDep, request: Request) -> Response:
    return _details(request, _film(standin, str(max(standin.catalogue.films, default=0))))


@router.get("/movie/{key}")
async def detail(standin: StandinDep, request: Request, key: str) -> Response:
    return _details(request, _film(standin, key))


@router.get("/movie/{key}/{part:path}")
async def part_of_film(standin: StandinDep, key: str, part: str) -> Response:
    found = shapes.part_alone(part, _film(standin, key).body)
    if found is None:
        raise TmdbError(404, shapes.NOT_FOUND)
    return TmdbResponse(found)


@router.get("/discover/movie")
async def discover(standin: StandinDep, request: Request) -> Response:
    params = request.query_params
    return _film_list(
        request, standin.catalogue.ordered(sort_order(params)), discover_tests(params)
    )


@router.get("/trending/movie/{window}")
async def trending(standin: StandinDep, request: Request, window: str) -> Response:
    # A catalogue tells nothing about the last day or week, so both are the order of popularity.
    if window not in ("day", "week"):
        raise TmdbError(404, shapes.NOT_FOUND)
    return _film_list(request, _by_popularity(standin), [not_adult], shapes.trending_item)


@router.get("/search/movie")
async def search(standin: StandinDep, request: Request) -> Response:
    params = request.query_params
    films = standin.catalogue.search(params.get("query", ""))
    return _film_list(request, films, search_tests(params))


@router.get("/genre/movie/list")
async def genres(standin: StandinDep) -> Response:
    return TmdbResponse({"genres": standin.catalogue.genres})


@router.get("/configuration")
async def configuration() -> Response:
    return TmdbResponse(shapes.CONFIGURATION)


def _film(standin: Standin, key: str) -> Film:
    found = standin.catalogue.find(key)
    if found is None:
        raise TmdbError(404, shapes.NOT_FOUND)
    return found


def _details(request: Request, film: Film) -> Response:
    return TmdbResponse(shapes.with_parts(film.body, appended(request.query_params)))


def _by_popularity(standin: Standin) -> list[Film]:
    return standin.catalogue.ordered("popularity.desc")


def _released(standin: Standin, request: Request, first: timedelta, last: timedelta) -> Response:
    low, high = str(standin.day + first), str(standin.day + last)
    return _film_list(
        request,
        _by_popularity(standin),
        [not_adult, lambda film: low <= film.release_date <= high],
        dates={"maximum": high, "minimum": low},
    )


def _film_list(
    request: Request,
    films: Iterable[Film],
    tests: Iterable[Test],
    item: Callable[[Body], Body] = shapes.list_item,
    *,
    dates: Body | None = None,
) -> Response:
    """The asked-for page of the films that pass all tests."""
    number = page_number(request.query_params)
    checks = list(tests)
    found = [film for film in films if all(check(film) for check in checks)]
    start = (number - 1) * shapes.PAGE_SIZE
    shown = [item(film.body) for film in found[start : start + shapes.PAGE_SIZE]]
    return TmdbResponse(shapes.page(shown, number, len(found), dates=dates))


async def _tmdb_error(_: Request, problem: Exception) -> Response:
    if not isinstance(problem, TmdbError):
        raise problem
    return refusal(problem.status, problem.body)


async def _http_error(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, HTTPException):
        raise problem
    if not request.url.path.startswith(API_PREFIX):
        return TmdbResponse({"detail": problem.detail}, problem.status_code)
    if problem.status_code == 405:
        return refusal(405, shapes.INVALID_FORMAT)
    return refusal(404, shapes.NOT_FOUND)
