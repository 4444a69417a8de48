"""The formula as the environment describes it."""

import pytest
from compute_service.recommendation.orders import ModelSettings
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


def test_models_are_fitted_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().model_settings() == ModelSettings()
    wanted = ModelSettings(films=1000, dense_films=500, threads=1, view_weight=0.5)
    for name in ("films", "dense_films", "threads", "view_weight"):
        monkeypatch.setenv(f"RECOMMEND_{name.upper()}", str(getattr(wanted, name)))
    assert settings().model_settings() == wanted
    monkeypatch.setenv("RECOMMEND_VIEW_WEIGHT", "0")
    with pytest.raises(ValidationError, match="recommend_view_weight"):
        settings()
