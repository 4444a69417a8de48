"""The SQL that computes and replaces artifacts.

What looks at the whole catalogue or at all activity may take minutes, and runs without any limit of
time. It only reads; what it found is written in short transactions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final, Protocol, cast

from sqlalchemy import Table, delete, insert, select, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts.artifact import Day
from compute_service.models import (
    artifact_runs,
    genre_stats_daily,
    movie_trending_daily,
    ratings_by_decade,
)
from compute_service.trend import LANDMARK, Kind, TrendFormula, Window

# The sums of a million films fit into it; with less they would be written to disk and read again.
_UNHURRIED: Final = text("""
    SELECT set_config('statement_timeout', '0', true), set_config('work_mem', '128MB', true)
""")
# The driver has a limit of its own, which cannot be left out but for a single call.
_A_DAY: Final = 86400.0
_REPEATABLE: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

# How many half-lives a piece of time is long within which impulses are summed as they are: at
# most 2^256 each, so that ten million of them are far from the largest number.
_PIECE_HALF_LIVES: Final = 256
# 2^-1000 beside 1 is nothing; less than 2^-1074 the server refuses to compute.
_NOTHING: Final = -1000

# The formula of `trend` over the raw events before a moment, in two levels: within pieces of time
# the impulses themselves, and the sums of the pieces as logarithms. A film's events may lie
# thousands of half-lives back.
_CHART: Final = text(f"""
    WITH sums AS (
        SELECT movie_id, piece,
            sum(weight * power(2.0, (second - piece * :length) / :half_life_day)) AS day,
            sum(weight * power(2.0, (second - piece * :length) / :half_life_week)) AS week
        FROM (
            SELECT movie_id, second, floor(second / CAST(:length AS float8)) AS piece,
                CASE kind WHEN '{Kind.VIEW.value}' THEN CAST(:view_weight AS float8)
                          ELSE CAST(:rating_weight AS float8) END AS weight
            FROM (
                SELECT movie_id, kind,
                    date_part('epoch', occurred_at) - CAST(:landmark AS float8) AS second
                FROM activity WHERE occurred_at < :until
            ) AS events
        ) AS impulses
        WHERE weight > 0
        GROUP BY movie_id, piece
    ), logs AS (
        SELECT COALESCE(trends.film, movie_id) AS movie_id,
            ln(day) / ln(2.0) + piece * :length / CAST(:half_life_day AS float8) AS day,
            ln(week) / ln(2.0) + piece * :length / CAST(:half_life_week AS float8) AS week
        FROM sums JOIN trends USING (movie_id)
    ), tops AS (
        SELECT movie_id, day, week,
            max(day) OVER of_film AS top_day, max(week) OVER of_film AS top_week
        FROM logs WINDOW of_film AS (PARTITION BY movie_id)
    ), events AS (
        SELECT movie_id,
            top_day + ln(sum(power(2.0, GREATEST(day - top_day, {_NOTHING})))) / ln(2.0) AS day,
            top_week + ln(sum(power(2.0, GREATEST(week - top_week, {_NOTHING})))) / ln(2.0) AS week
        FROM tops GROUP BY movie_id, top_day, top_week
    ), films AS (
        SELECT trends.movie_id, log_quality, events.day, events.week,
            CASE WHEN popularity > 0 AND CAST(:prior_weight AS float8) > 0 THEN
                ln(popularity) / ln(2.0) + ln(CAST(:prior_weight AS float8)) / ln(2.0) END AS prior,
            date_part('epoch', LEAST(fetched_at, :until)) - CAST(:landmark AS float8) AS fetched
        FROM trends
        JOIN movies USING (movie_id)
        LEFT JOIN events USING (movie_id)
        WHERE log_quality IS NOT NULL
    ), activities AS (
        SELECT movie_id, log_quality, day, week,
            prior + fetched / CAST(:half_life_day AS float8) AS prior_day,
            prior + fetched / CAST(:half_life_week AS float8) AS prior_week
        FROM films
        WHERE day IS NOT NULL OR prior IS NOT NULL
    ), totals AS (
        SELECT movie_id, log_quality,
            CASE WHEN day IS NULL OR prior_day IS NULL THEN COALESCE(day, prior_day)
            ELSE GREATEST(day, prior_day)
                + ln(1 + power(2.0, GREATEST(-abs(day - prior_day), {_NOTHING}))) / ln(2.0)
            END AS day,
            CASE WHEN week IS NULL OR prior_week IS NULL THEN COALESCE(week, prior_week)
            ELSE GREATEST(week, prior_week)
                + ln(1 + power(2.0, GREATEST(-abs(week - prior_week), {_NOTHING}))) / ln(2.0)
            END AS week
        FROM activities
    ), keys AS MATERIALIZED (
        SELECT movie_id,
            CAST(:exponent AS float8) * day + (1 - :exponent) * log_quality AS day,
            CAST(:exponent AS float8) * week + (1 - :exponent) * log_quality AS week
        FROM totals
    )
    -- What differs in the last digits only, by the order of addition, is a tie.
    (SELECT 'day' AS chart_window, movie_id, day AS rank_key FROM keys
     ORDER BY round(day * 1e9) DESC, movie_id LIMIT :size)
    UNION ALL
    (SELECT 'week', movie_id, week FROM keys
     ORDER BY round(week * 1e9) DESC, movie_id LIMIT :size)
""")  # noqa: S608 -- made of constants
_RECORD_RUN: Final = text("""
    INSERT INTO artifact_runs (artifact, as_of, computed_at, rows, seconds, job_id)
    VALUES (:artifact, :as_of, :computed_at, :rows, :seconds, :job_id)
    ON CONFLICT (artifact, as_of) DO UPDATE SET
        computed_at = excluded.computed_at, rows = excluded.rows, seconds = excluded.seconds,
        job_id = excluded.job_id
""")
_INSERT_PLACES: Final = text("""
    INSERT INTO movie_trending_daily
        (chart_window, date, movie_id, rank, score, days_on_chart, peak_rank)
    SELECT chart_window, :date, movie_id, rank, score, 1, rank
    FROM unnest(
        CAST(:windows AS text[]), CAST(:movie_ids AS text[]), CAST(:ranks AS integer[]),
        CAST(:scores AS float8[])
    ) AS place (chart_window, movie_id, rank, score)
""")
# A film's days are those of all keys under which it was in the chart.
_FOLLOW: Final = text("""
    WITH affected AS (
        SELECT DISTINCT COALESCE(trends.film, id) AS film
        FROM unnest(CAST(:ids AS text[])) AS id LEFT JOIN trends ON trends.movie_id = id
    ), named AS (
        SELECT film AS movie_id, film FROM affected
        UNION
        SELECT trends.movie_id, affected.film FROM affected JOIN trends USING (film)
    ), followed AS (
        SELECT chart_window, date, movie_id,
            min(rank) OVER day_before - rank AS movement,
            dense_rank() OVER so_far AS days_on_chart,
            min(rank) OVER so_far AS peak_rank
        FROM named JOIN movie_trending_daily USING (movie_id)
        WINDOW so_far AS (PARTITION BY chart_window, film ORDER BY date),
            day_before AS (PARTITION BY chart_window, film ORDER BY date
                RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 day' PRECEDING)
    )
    UPDATE movie_trending_daily AS place
    SET movement = followed.movement,
        days_on_chart = followed.days_on_chart,
        peak_rank = followed.peak_rank
    FROM followed
    WHERE place.chart_window = followed.chart_window AND place.date = followed.date
      AND place.movie_id = followed.movie_id AND place.date >= :date
      AND (place.movement, place.days_on_chart, place.peak_rank)
          IS DISTINCT FROM (followed.movement, followed.days_on_chart, followed.peak_rank)
""")
# A film that is in the catalogue twice, under two keys, is the one of the better key.
_GENRES: Final = text(f"""
    WITH viewed AS (
        SELECT COALESCE(trends.film, movie_id) AS movie_id, sum(times) AS times
        FROM (
            SELECT movie_id, count(*) AS times FROM activity
            WHERE kind = '{Kind.VIEW.value}' AND occurred_at >= :since AND occurred_at < :until
            GROUP BY movie_id
        ) AS counted
        JOIN trends USING (movie_id)
        GROUP BY 1
    ), listed AS (
        SELECT DISTINCT ON (movie_id, key) movie_id, key, spelling, vote_average, vote_count,
            ratings_count + alias_ratings_count AS ratings_count,
            ratings_sum + alias_ratings_sum AS ratings_sum
        FROM trends
        JOIN movies USING (movie_id),
        unnest(genres, genre_keys) WITH ORDINALITY AS genre (spelling, key, position)
        WHERE log_quality IS NOT NULL AND key <> ''
        ORDER BY movie_id, key, position
    )
    SELECT mode() WITHIN GROUP (ORDER BY spelling COLLATE "C") AS genre,
        count(*) AS volume,
        CAST(COALESCE(sum(times), 0) AS bigint) AS views,
        avg(vote_average) FILTER (WHERE vote_count > 0) AS avg_rating,
        count(vote_average) FILTER (WHERE vote_count > 0) AS rated_films,
        CAST(sum(ratings_count) AS bigint) AS local_ratings,
        sum(ratings_sum) / NULLIF(CAST(sum(ratings_count) AS float8), 0) AS local_avg
    FROM listed LEFT JOIN viewed USING (movie_id)
    GROUP BY key
""")  # noqa: S608 -- made of constants
_DECADES: Final = text("""
    SELECT release_year / 10 * 10 AS decade,
        count(*) AS movie_count,
        avg(vote_average) FILTER (WHERE vote_count > 0) AS avg_rating,
        count(vote_average) FILTER (WHERE vote_count > 0) AS rated_films,
        CAST(sum(ratings_count + alias_ratings_count) AS bigint) AS local_ratings,
        sum(ratings_sum + alias_ratings_sum)
            / NULLIF(CAST(sum(ratings_count + alias_ratings_count) AS float8), 0) AS local_avg
    FROM trends JOIN movies USING (movie_id)
    WHERE log_quality IS NOT NULL AND release_year IS NOT NULL
    GROUP BY 1
""")


class _Driver(Protocol):
    async def fetch(
        self,
        query: str,
        *args: object,
        timeout: float,  # noqa: ASYNC109 -- so the driver calls it
    ) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A film's rank in a day's chart, from 1, and its score on 0 to 100 at the day's end."""

    chart_window: Window
    movie_id: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class GenreStats:
    """Figures of the films that have a genre; means are None where there is nothing to average.

    `views` are those of the day, `avg_rating` the plain mean of the source's averages over the
    `rated_films` that have votes, `local_avg` the mean over all `local_ratings`.
    """

    genre: str
    volume: int
    views: int
    avg_rating: float | None
    rated_films: int
    local_ratings: int
    local_avg: float | None


@dataclass(frozen=True, slots=True)
class DecadeStats:
    """Figures of the films released in the ten years from `decade` on; means as in `GenreStats`."""

    decade: int
    movie_count: int
    rated_films: int
    avg_rating: float | None
    local_ratings: int
    local_avg: float | None


@dataclass(frozen=True, slots=True)
class ArtifactRun:
    """The artifact of a day is there since `computed_at`; computing took `seconds`."""

    artifact: str
    as_of: date
    computed_at: datetime
    rows: int
    seconds: float
    job_id: str


async def as_of_one_moment(connection: AsyncConnection) -> None:
    """All that this transaction reads is of one moment. Has to be its first statement."""
    await connection.execute(_REPEATABLE)


async def compute_chart(
    connection: AsyncConnection, formula: TrendFormula, until: datetime, *, size: int
) -> dict[Window, list[tuple[str, float]]]:
    """The first `size` films of each chart as it was at `until`, best first: key and rank key."""
    halves = {window: formula.half_life(window) for window in Window}
    found = await _slowly(
        connection,
        _CHART,
        {
            "until": until,
            "landmark": LANDMARK.timestamp(),
            "length": _PIECE_HALF_LIVES * min(halves.values()),
            "half_life_day": halves[Window.DAY],
            "half_life_week": halves[Window.WEEK],
            "view_weight": formula.weight(Kind.VIEW),
            "rating_weight": formula.weight(Kind.RATING),
            "prior_weight": formula.prior_weight,
            "exponent": formula.activity_exponent,
            "size": size,
        },
    )
    charts: dict[Window, list[tuple[str, float]]] = {window: [] for window in Window}
    for row in found:
        charts[Window(row["chart_window"])].append((row["movie_id"], row["rank_key"]))
    return charts


async def replace_chart(connection: AsyncConnection, day: date, places: Sequence[Place]) -> None:
    """The charts of a day; where its films stand in those of later days follows."""
    table = movie_trending_daily
    await _lock(connection, table)
    before = await connection.execute(
        delete(table).where(table.c.date == day).returning(table.c.movie_id)
    )
    ids = set(before.scalars()) | {place.movie_id for place in places}
    await connection.execute(
        _INSERT_PLACES,
        {
            "date": day,
            "windows": [place.chart_window.value for place in places],
            "movie_ids": [place.movie_id for place in places],
            "ranks": [place.rank for place in places],
            "scores": [place.score for place in places],
        },
    )
    await _slowly(connection, _FOLLOW, {"ids": sorted(ids), "date": day})


async def compute_genres(connection: AsyncConnection, day: Day) -> list[GenreStats]:
    """Figures of every genre, in no order."""
    since = datetime.combine(day.date, time(tzinfo=UTC))
    found = await _slowly(connection, _GENRES, {"since": since, "until": day.until})
    return [GenreStats(**row) for row in found]


async def replace_genres(
    connection: AsyncConnection, day: date, stats: Collection[GenreStats]
) -> None:
    """The genres' figures of a day."""
    await _replace(connection, genre_stats_daily, day, [asdict(row) for row in stats])


async def compute_decades(connection: AsyncConnection) -> list[DecadeStats]:
    """Figures of every decade, in no order."""
    return [DecadeStats(**row) for row in await _slowly(connection, _DECADES, {})]


async def replace_decades(
    connection: AsyncConnection, day: date, stats: Collection[DecadeStats]
) -> None:
    """The decades' figures as of a day."""
    await _replace(connection, ratings_by_decade, day, [asdict(row) for row in stats])


async def record_run(connection: AsyncConnection, run: ArtifactRun) -> None:
    """The artifact of that day was computed, once more perhaps."""
    await connection.execute(_RECORD_RUN, asdict(run))


async def find_run(
    connection: AsyncConnection, artifact: str, day: date | None
) -> ArtifactRun | None:
    """The run that made the artifact of a day, or the one of the newest day that there is."""
    table = artifact_runs
    wanted = select(table).where(table.c.artifact == artifact).order_by(table.c.as_of.desc())
    if day is not None:
        wanted = wanted.where(table.c.as_of == day)
    row = (await connection.execute(wanted.limit(1))).mappings().first()
    return None if row is None else ArtifactRun(**row)


async def _replace(
    connection: AsyncConnection, table: Table, day: date, rows: list[dict[str, Any]]
) -> None:
    await _lock(connection, table)
    await connection.execute(delete(table).where(table.c.date == day))
    if rows:
        await connection.execute(insert(table), [row | {"date": day} for row in rows])


async def _lock(connection: AsyncConnection, table: Table) -> None:
    """One job writes at a time; readers do not wait."""
    await connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


async def _slowly(
    connection: AsyncConnection, statement: Any, parameters: Mapping[str, Any]
) -> Sequence[dict[str, Any]]:
    """The rows of a statement that may take as long as it does."""
    await connection.execute(_UNHURRIED)
    compiled = statement.compile(dialect=dialect())
    values = [parameters[name] for name in compiled.positiontup]
    raw = await connection.get_raw_connection()
    driver = cast("_Driver", raw.driver_connection)
    found = await driver.fetch(str(compiled), *values, timeout=_A_DAY)
    return [dict(row) for row in found]
