from datetime import UTC, datetime

import pytest
from ingest_service.retry import growing_delay, retry_after_seconds

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("10", 10.0),
        (" 7 ", 7.0),
        ("999999999", 86_400.0),
        ("-5", None),
        ("1.5", None),
        ("\u0661", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 14:00:30 +0200", 30.0),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 30.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 11:59:00 GMT", 86_400.0),
        ("Sat, 99 Nov 2026 99:59:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


def test_delays_double_up_to_half_a_minute() -> None:
    longest = [growing_delay(attempt, base=0.25, dice=0) for attempt in (1, 2, 3, 4, 8, 9, 10_000)]
    assert longest == [0.25, 0.5, 1.0, 2.0, 30.0, 30.0, 30.0]


def test_jitter_takes_at_most_half() -> None:
    assert growing_delay(3, base=0.25, dice=0.999999) == pytest.approx(0.5, rel=1e-5)
