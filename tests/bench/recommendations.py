"""`make bench-recommendations`: how good recommendations are on MovieLens, beside other models.

Of each user's ratings, in order of time, the last 20% (rounded down) are the test part. The 100k
set has times in seconds: ratings of the same second keep the order of the file, which is not
sorted. Of the 1M set the order within each user is given (`user_seq`). Every film that occurs in
the training part and that the user has not rated there is ranked. Whatever was rated in the test
part is relevant, unless it does not occur in the training part. Means over users with a relevant
film:

    NDCG@10    Σ hits at rank r of 1 / log2(r + 1), over that of min(10, relevant) hits on top
    recall@20  hits among the first 20, over min(20, relevant)

Nothing is tuned on the test part. The other models' settings are chosen in each run by NDCG@10 on a
validation part, the last 10% of each user's training part, from the values listed in `MODELS`. Ours
is as the service has it. Its defaults are the same for both sets and were chosen by hand on the
validation parts (of the 1M set mostly on 2,000 users), among some fifty variants: not the best one,
but a simple one within 0.004 of the best sum of both NDCG@10. So were how many weights of each film
are kept (of 200, 300, 500, 800, all), and what a low score counts. So it was searched more widely
than the others.

`--validation` shows the validation part instead.

Exits with 1 when ours misses a target.
"""

import argparse
import csv
import gzip
import importlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from compute_service.recommendation.interactions import Interactions
from compute_service.recommendation.model import FilmContent, content_similarity, fit
from compute_service.recommendation.model.rows import rows, scorer_of
from compute_service.recommendation.taste import profile_weights
from scipy.sparse import csr_array, csr_matrix

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Scores = Callable[[int, int], Float]
"""Users from the first to the last, exclusive, to (users, films)."""

TARGETS = {"100k": 0.26, "1m": 0.27}
SECONDS, MEGABYTES = 120, 1500
USERS_AT_ONCE = 500


@dataclass(frozen=True)
class Film:
    """What a set says of a film."""

    genres: frozenset[str]
    year: int | None


@dataclass(frozen=True)
class Ratings:
    """Ratings sorted by user, oldest first."""

    user: Int
    film: Int
    stars: Int

    def __len__(self) -> int:
        return len(self.user)

    def cut(self, share: float) -> tuple["Ratings", "Ratings"]:
        """The older and the last `share` of each user's ratings."""
        count = np.bincount(self.user)
        position = np.arange(len(self)) - (np.cumsum(count) - count)[self.user]
        late = position >= (count - np.floor(count * share))[self.user]
        return self._only(~late), self._only(late)

    def _only(self, kept: npt.NDArray[np.bool_]) -> "Ratings":
        return Ratings(self.user[kept], self.film[kept], self.stars[kept])


class Split:
    """A training part, in numbers from 0, and what is relevant after it."""

    def __init__(self, training: Ratings, held_back: Ratings, films: dict[int, Film]) -> None:
        self.user_ids, user = np.unique(training.user, return_inverse=True)
        self.film_ids, film = np.unique(training.film, return_inverse=True)
        self.users, self.films = len(self.user_ids), len(self.film_ids)
        self.known = [films[int(film_id)] for film_id in self.film_ids]
        self.stars = training.stars
        self.interactions = Interactions.of(
            user, film, np.arange(len(training)), users=self.users, items=self.films
        )
        self.seen = self._matrix(self.interactions.user, self.interactions.item)
        ranked = np.isin(held_back.film, self.film_ids)
        self.relevant = self._matrix(
            np.searchsorted(self.user_ids, held_back.user[ranked]),
            np.searchsorted(self.film_ids, held_back.film[ranked]),
        )

    def _matrix(self, rows: Int, columns: Int) -> csr_array[np.float32, tuple[int, int]]:
        ones = np.ones(len(rows), np.float32)
        return csr_array((ones, (rows, columns)), shape=(self.users, self.films))

    def measure(self, scores: Scores) -> tuple[float, float]:
        """NDCG@10 and recall@20."""
        gain = 1 / np.log2(np.arange(2, 12))
        ideal = np.cumsum(gain)
        ndcg: list[float] = []
        recall: list[float] = []
        for first in range(0, self.users, USERS_AT_ONCE):
            last = min(first + USERS_AT_ONCE, self.users)
            values = np.array(scores(first, last), np.float32)
            values[self.seen[first:last].nonzero()] = -np.inf
            top = np.argsort(-values, axis=1, kind="stable")[:, :20]
            relevant = self.relevant[first:last].toarray()
            hits = np.take_along_axis(relevant, top, axis=1)
            for found, count in zip(hits, relevant.sum(axis=1).astype(int), strict=True):
                if count:
                    ndcg.append(float(found[:10] @ gain / ideal[min(count, 10) - 1]))
                    recall.append(float(found.sum() / min(count, 20)))
        return float(np.mean(ndcg)), float(np.mean(recall))


def popularity(split: Split, _: float) -> Scores:
    """How many users rated a film."""
    counts = split.interactions.counts().astype(np.float32)
    return lambda first, last: np.tile(counts, (last - first, 1))


def genre_similarity(split: Split, _: float) -> Scores:
    """The predecessor's: 0.5·Jaccard(genres) + 0.5·(1 - |Δ mean rating| / 10), over all rated.

    It kept ten films of each; all are kept here, which is to its advantage. Ratings are on 0 to 10.
    """
    names = sorted({genre for film in split.known for genre in film.genres})
    has = np.array([[name in film.genres for name in names] for film in split.known], np.float32)
    common = has @ has.T
    size = has.sum(axis=1)
    jaccard = common / np.maximum(size[:, None] + size - common, 1)
    films = split.interactions.item
    mean = 2 * np.bincount(films, split.stars, split.films) / np.bincount(films)
    alike = 0.5 * jaccard + 0.5 * (1 - np.abs(mean[:, None] - mean) / 10)
    return _weighed(split, alike.astype(np.float32))


def item_knn(split: Split, neighbours: float) -> Scores:
    """Cosine of the films' users; of each film the nearest ones."""
    together = (split.seen.T @ split.seen).toarray()
    length = np.sqrt(together.diagonal())
    cosine = together / (length[:, None] * length)
    np.fill_diagonal(cosine, 0)
    least = -np.sort(-cosine, axis=1)[:, int(neighbours) - 1]
    cosine[cosine < least[:, None]] = 0
    return _weighed(split, cosine.astype(np.float32))


def ease(split: Split, ridge: float) -> Scores:
    """EASE (Steck 2019), on whole histories without their order."""
    gram = (split.seen.T @ split.seen).toarray() + ridge * np.eye(split.films, dtype=np.float32)
    inverse = np.linalg.inv(gram)
    weights = inverse / -inverse.diagonal()
    np.fill_diagonal(weights, 0)
    return _weighed(split, weights.astype(np.float32))


def als(split: Split, factors: float) -> Scores:
    """implicit's alternating least squares."""
    module: Any = importlib.import_module("implicit.als")
    limits: Any = importlib.import_module("threadpoolctl")
    with limits.threadpool_limits(1, "blas"):  # it has threads of its own, and warns of more
        model = module.AlternatingLeastSquares(
            factors=int(factors), regularization=0.05, iterations=20, random_state=1, num_threads=2
        )
        model.fit(csr_matrix(split.seen), show_progress=False)
    users, films = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda first, last: users[first:last] @ films.T


def ours(split: Split, _: float) -> Scores:
    """As the service serves it, from the same rows and by the same code.

    Order, genres and decade where a film has few ratings, of each film the strongest weights only,
    and what the user rated below 4 of 10 counts half.
    """
    content = content_similarity(
        [FilmContent(genres=sorted(film.genres), year=film.year) for film in split.known]
    )
    recommender = fit(split.interactions, content)
    stored = list(rows(recommender))
    scorer = scorer_of(recommender)
    weights = profile_weights(4 * split.stars)  # stars are whole; ten of ten are 20 half steps
    bounds = np.searchsorted(split.interactions.user, np.arange(split.users + 1))

    def scores(user: int) -> Float:
        history = slice(int(bounds[user]), int(bounds[user + 1]))
        numbers: list[int] = split.interactions.item[history].tolist()
        films = [stored[number] for number in numbers]
        return scorer.scores(scorer.profile(films, weights[history]))

    return lambda first, last: np.stack([scores(user) for user in range(first, last)])


def _weighed(split: Split, weights: Float) -> Scores:
    return lambda first, last: split.seen[first:last] @ weights


MODELS: dict[str, tuple[Callable[[Split, float], Scores], tuple[float, ...]]] = {
    "popularity": (popularity, ()),
    "genre similarity (predecessor)": (genre_similarity, ()),
    "item-kNN, cosine (neighbours)": (item_knn, (20, 50, 100, 200)),
    "EASE (ridge)": (ease, (100, 300, 1000)),
    "ALS, implicit (factors)": (als, (16, 32, 64)),
    "ours": (ours, ()),
}


def read_100k(folder: Path) -> tuple[Ratings, dict[int, Film]]:
    """`u.data` and `u.item`."""
    rows = [line.split("\t") for line in _lines(folder / "ml-100k" / "u.data", "ascii")]
    columns = np.array(rows, np.int64)
    films: dict[int, Film] = {}
    for line in _lines(folder / "ml-100k" / "u.item", "latin-1"):
        number, _, date, _, _, *flags = line.split("|")
        genres = frozenset(str(index) for index, flag in enumerate(flags) if flag == "1")
        films[int(number)] = Film(genres, int(date[-4:]) if date else None)
    return _sorted(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3]), films


def read_1m(folder: Path) -> tuple[Ratings, dict[int, Film]]:
    """`ratings_all_rebuilt.csv.gz` and `movies.dat`."""
    table = csv.DictReader(_lines(folder / "ml-1m" / "ratings_all_rebuilt.csv", "ascii"))
    names = ("user_id", "movie_id", "rating", "user_seq")
    columns = np.array([[row[name] for name in names] for row in table], np.int64)
    films: dict[int, Film] = {}
    for line in _lines(folder / "ml-1m" / "movies.dat", "latin-1"):
        number, title, genres = line.split("::")
        year = re.search(r"\((\d{4})\)$", title)
        films[int(number)] = Film(frozenset(genres.split("|")), int(year[1]) if year else None)
    return _sorted(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3]), films


READERS = {"100k": read_100k, "1m": read_1m}


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Of a file that may be compressed, without line ends."""
    packed = path.with_name(path.name + ".gz")
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    return (line.rstrip("\r\n") for line in io.StringIO(raw.decode(encoding)) if line.strip())


def _sorted(user: Int, film: Int, stars: Int, moment: Int) -> Ratings:
    order = np.lexsort((moment, user))
    _, number = np.unique(user[order], return_inverse=True)
    return Ratings(number.astype(np.int64), film[order], stars[order])


def table(name: str, folder: Path, *, validation: bool) -> float:
    """Print the table of one set; NDCG@10 of ours."""
    ratings, films = READERS[name](folder)
    training, test = ratings.cut(0.2)
    tuning = Split(*training.cut(0.1), films)
    split = tuning if validation else Split(training, test, films)
    part = "validation" if validation else "test"
    _say(
        f"\nMovieLens {name}, {part} part: {split.users:,} users, {split.films:,} films, "
        f"{len(split.interactions):,} ratings to learn from, {split.relevant.nnz:,} relevant\n"
    )
    _say(f"  {'':<42} {'NDCG@10':>8} {'recall@20':>10} {'seconds':>8}\n")
    ndcg = 0.0
    for label, (model, values) in MODELS.items():
        if model is als and importlib.util.find_spec("implicit") is None:
            _say(f"  {label:<42} skipped: implicit is not installed\n")
            continue
        chosen = max(values, key=lambda value: tuning.measure(model(tuning, value))[0], default=0)
        began = time.perf_counter()
        scores = model(split, chosen)
        seconds = time.perf_counter() - began
        ndcg, recall = split.measure(scores)
        shown = f"{label}: {chosen:g}" if values else label
        _say(f"  {shown:<42} {ndcg:>8.4f} {recall:>10.4f} {seconds:>8.1f}\n")
    return ndcg


def cost(name: str, folder: Path) -> None:
    """What fitting ours on all ratings of a set takes; for a process of its own."""
    ratings, films = READERS[name](folder)
    everything = Split(*ratings.cut(0), films)
    before = _peak()
    began = time.perf_counter()
    ours(everything, 0)
    seconds = time.perf_counter() - began
    _say(json.dumps({"seconds": seconds, "peak": _peak(), "before": before}))


def _peak() -> float:
    """MB of memory at most so far. Not `getrusage`, which counts the parent process in."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """Both tables, then the cost of both sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="with ml-100k/ and ml-1m/")
    parser.add_argument("--set", choices=READERS, action="append", help="only this one")
    parser.add_argument("--validation", action="store_true", help="not the test part")
    parser.add_argument("--cost", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names: list[str] = arguments.set or list(READERS)
    if arguments.cost:
        cost(names[0], arguments.folder)
        return 0

    missed: list[str] = []
    for name in names:
        ndcg = table(name, arguments.folder, validation=arguments.validation)
        if not arguments.validation:
            good = ndcg >= TARGETS[name]
            _say(f"  target of ours: {TARGETS[name]}  {'ok' if good else 'MISSED'}\n")
            missed += [] if good else [f"quality on {name}"]
    _say("\nFitting ours on all ratings of a set, in a process of its own\n")
    for name in names:
        command = [sys.executable, __file__, str(arguments.folder), "--cost", "--set", name]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, float] = json.loads(told.stdout)
        good = found["seconds"] < SECONDS and found["peak"] < MEGABYTES
        _say(
            f"  {name:<5} {found['seconds']:>6.1f} s, peak {found['peak']:,.0f} MB "
            f"({found['before']:,.0f} MB of them before)  {'ok' if good else 'MISSED'}\n"
        )
        missed += [] if good else [f"cost of {name}"]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
