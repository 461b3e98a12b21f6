"""The poly schedule, against torch's own implementation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcsp.training.schedule import learning_rates, poly_factor


def test_it_is_torchs_polynomial_schedule() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.9)
    for step in range(50):
        rate = optimizer.param_groups[0]["lr"]
        assert 1e-3 * poly_factor(step, 50, 0.9) == pytest.approx(rate, rel=1e-6)
        optimizer.step()
        reference.step()


@given(st.integers(1, 10_000), st.data(), st.floats(0, 3))
def test_it_starts_at_one_and_never_rises(steps: int, data: st.DataObject, power: float) -> None:
    step = data.draw(st.integers(0, steps - 1))
    assert poly_factor(0, steps, power) == 1.0
    assert 0.0 <= poly_factor(step + 1, steps, power) <= poly_factor(step, steps, power) <= 1.0


def test_it_is_zero_from_the_last_step_on() -> None:
    assert poly_factor(10, 10, 0.9) == poly_factor(11, 10, 0.0) == 0.0


def test_all_groups_keep_their_ratio() -> None:
    rates = learning_rates([1e-3, 1e-2, 2e-2], 30, 100, 0.9)
    assert rates == pytest.approx([1e-3 * 0.7**0.9, 1e-2 * 0.7**0.9, 2e-2 * 0.7**0.9])


def test_a_step_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="step >= 0"):
        poly_factor(-1, 10, 0.9)
