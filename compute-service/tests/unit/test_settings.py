"""The formula as the environment describes it."""

import pytest
from compute_service.settings import Settings
from compute_service.trend import TrendFormula
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://guest:guest@127.0.0.1/")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1/none")


def settings() -> Settings:
    return Settings()  # pyright: ignore[reportCallIssue] -- the environment gives the rest


def test_without_settings_it_is_the_default_formula() -> None:
    assert settings().trend_formula() == TrendFormula()
    assert settings().http_port == 8103


def test_every_parameter_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    formula = TrendFormula(
        activity_exponent=0.3,
        half_life_day_hours=12,
        half_life_week_hours=100,
        view_weight=2,
        rating_weight=5,
        prior_weight=0.2,
        global_mean=5.5,
        global_weight=20,
        vote_cap=30,
        reference=4,
    )
    for name, value in formula.describe().parameters.items():
        monkeypatch.setenv(f"TREND_{name.upper()}", str(value))
    assert settings().trend_formula() == formula


def test_a_nonsensical_formula_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREND_ACTIVITY_EXPONENT", "1.5")
    with pytest.raises(ValidationError, match=r"activity_exponent is 1\.5, it must be above 0"):
        settings()
