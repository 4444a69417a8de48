"""Files as users upload them, made up."""

import csv
import random
from pathlib import Path
from typing import Final

UPLOAD_COLUMNS: Final = (
    "budget",
    "homepage",
    "original_language",
    "original_title",
    "overview",
    "release_date",
    "revenue",
    "runtime",
    "status",
    "title",
    "vote_average",
    "vote_count",
    "production_company_id",
    "genre_id",
    "languages",
)
_GENRES: Final = (28, 12, 16, 35, 80, 99, 18, 10751, 14, 36, 27, 10402, 9648, 10749, 878, 53, 37)
_LANGUAGES: Final = (
    ("en", "['English']"),
    ("fr", "['Français']"),
    ("de", "['Deutsch', 'English']"),
    ("ja", "['日本語']"),
    ("hi", "['हिन्दी']"),
)


def write_upload(file: Path, rows: int, *, seed: int = 7, wrong_every: int = 0) -> None:
    """A file in the IMDB upload format, about 440 bytes a row.

    Args:
        wrong_every: each so many rows one has a negative budget, and one repeats a film with other
            values.
    """
    draw = random.Random(seed)
    words = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size % 7 + 3)) for size in range(5000)
    ]
    overviews = [" ".join(draw.choices(words, k=draw.randint(28, 66))) for _ in range(3000)]
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(UPLOAD_COLUMNS)
        for number in range(rows):
            language, spoken = draw.choice(_LANGUAGES)
            budget = draw.choice((0, 0, 0, draw.randint(10_000, 200_000_000)))
            title = f"{draw.choice(words)} {draw.choice(words)} {number}".title()
            if wrong_every and number % wrong_every == wrong_every - 1:
                budget = -1
            if wrong_every and number % wrong_every == wrong_every // 2:
                title = "The Same Film Again"
            writer.writerow(
                (
                    f"{budget}.0",
                    "" if number % 3 else f"http://films.example/{number}",
                    language,
                    title,
                    draw.choice(overviews),
                    f"{1930 + number % 91}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
                    if title != "The Same Film Again"
                    else "2001-02-03",
                    f"{abs(budget) * 2}.0",
                    draw.randint(60, 200),
                    "Released",
                    title,
                    round(draw.random() * 10, 1),
                    f"{draw.randint(0, 9000)}.0",
                    draw.randint(1, 9999),
                    draw.choice(_GENRES),
                    spoken,
                )
            )
