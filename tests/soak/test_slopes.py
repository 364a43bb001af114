"""The soak finds growth, and takes noise for what it is."""

from __future__ import annotations

import random

import pytest

from tests.soak.slopes import BLOCKS, slope_of

TIMES = [float(second) for second in range(1200)]


def noisy(per_hour: float, seed: int) -> list[float]:
    dice = random.Random(seed)
    return [100 + per_hour * at / 3600 + dice.expovariate(0.5) for at in TIMES]


@pytest.mark.parametrize("seed", range(20))
def test_flat_noise_is_no_growth(seed: int) -> None:
    slope = slope_of(TIMES, noisy(0, seed))
    assert not slope.grows(1)
    assert slope.certain(4)


@pytest.mark.parametrize("seed", range(20))
def test_growth_is_found_under_noise(seed: int) -> None:
    slope = slope_of(TIMES, noisy(6, seed))
    assert slope.grows(1)
    assert abs(slope.per_hour - 6) < slope.margin + 2


def test_a_line_is_fitted_exactly() -> None:
    slope = slope_of(TIMES, [2 * at / 3600 + 7 for at in TIMES])
    assert slope.per_hour == pytest.approx(2, rel=1e-3)
    assert slope.margin == pytest.approx(0, abs=1e-2)
    assert (slope.first, slope.last) == pytest.approx((7, 7.67), abs=0.05)


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope_of([0.0] * BLOCKS, [0.0] * BLOCKS)
