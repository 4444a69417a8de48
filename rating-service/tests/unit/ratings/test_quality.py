"""The Bayesian mean: the formula with numbers worked out by hand, and nonsensical parameters."""

from typing import Any

import pytest
from rating_service.ratings.quality import QualityFormula


@pytest.mark.parametrize(
    ("count", "total", "vote_average", "vote_count", "expected"),
    [
        pytest.param(0, 0.0, None, 0, 6.0, id="nothing known: the global mean"),
        pytest.param(1, 10.0, None, 0, 70 / 11, id="one 10 does not win"),
        pytest.param(0, 0.0, 8.0, 20, (60 + 160) / 30, id="the source's votes"),
        pytest.param(0, 0.0, 8.0, 9000, (60 + 400) / 60, id="... only so many of them"),
        pytest.param(3, 24.0, 7.0, 100, 434 / 63, id="all together"),
        pytest.param(0, 0.0, None, 500, 6.0, id="votes without an average"),
    ],
)
def test_mean(
    count: int, total: float, vote_average: float | None, vote_count: int, expected: float
) -> None:
    found = QualityFormula().mean(
        count=count, total=total, vote_average=vote_average, vote_count=vote_count
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_parameters_count() -> None:
    formula = QualityFormula(global_mean=5, global_weight=2, vote_cap=3)
    found = formula.mean(count=1, total=9.0, vote_average=8.0, vote_count=10)
    assert found == pytest.approx((10 + 24 + 9) / 6, rel=1e-12)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"global_mean": 0}, "global_mean is 0"),
        ({"global_mean": 10.5}, "global_mean is 10.5"),
        ({"global_mean": float("nan")}, "global_mean is nan"),
        ({"global_weight": 0}, "global_weight is 0"),
        ({"global_weight": float("inf")}, "global_weight is inf"),
        ({"vote_cap": -1}, "vote_cap is -1"),
    ],
)
def test_nonsense_is_refused_by_name(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        QualityFormula(**parameters)
