"""The poly learning-rate schedule (paper 5.1; method 1.7): pure functions of the step."""

from __future__ import annotations

from collections.abc import Sequence


def poly_factor(step: int, steps: int, power: float) -> float:
    """What the base learning rates are multiplied by: (1 − step / steps) ^ power.

    Args:
        step: Optimiser steps already taken, from 0; past the last step the factor is 0.
        steps: Steps of the whole stage, at least 1.
        power: Exponent, at least 0; 0 keeps the rate constant. Paper: 0.9.

    Returns:
        A factor in [0, 1], 1 at step 0, never rising.

    Raises:
        ValueError: ``step`` is negative or ``steps`` is not positive.
    """
    if step < 0 or steps < 1:
        raise ValueError(f"a schedule needs step >= 0 and steps >= 1, got {step} of {steps}")
    if step >= steps:
        return 0.0
    return float((1.0 - step / steps) ** power)


def learning_rates(base: Sequence[float], step: int, steps: int, power: float) -> list[float]:
    """Learning rate of every parameter group at a step, in the order of ``base``.

    Args:
        base: Rates at step 0, in the paper lr, 10·lr and 20·lr.
        step: As in :func:`poly_factor`.
        steps: As in :func:`poly_factor`.
        power: As in :func:`poly_factor`.
    """
    factor = poly_factor(step, steps, power)
    return [rate * factor for rate in base]
