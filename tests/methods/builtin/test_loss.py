"""The weakly supervised loss against a loop over cells, and the limits of its pooling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsp.methods.builtin.loss import PriorTerms, log_sum_exp_pool, prior_terms
from tests.training.tiny import mean_of

TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
PARTS = PriorTerms._fields


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_mask(size: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).choice(
        np.array([0, 1, 255], np.uint8), (2, size, size), p=[0.5, 0.3, 0.2]
    )
    return torch.from_numpy(values)


def means(terms: PriorTerms) -> list[float]:
    return [mean_of(term).item() for term in terms]


def total(terms: PriorTerms) -> Tensor:
    return torch.stack([term.total for term in terms]).sum()


def everywhere(values: Tensor) -> Tensor:
    return torch.ones(len(values), *values.shape[-2:], dtype=torch.bool)


def test_soft_pooling_is_the_mean() -> None:
    values = random(2, 3, 5, 7).double().sigmoid()
    pooled = log_sum_exp_pool(values, everywhere(values), 1e-9)
    torch.testing.assert_close(pooled, values.mean(dim=(2, 3)), rtol=1e-7, atol=0)


def test_sharp_pooling_is_the_maximum() -> None:
    values = random(2, 3, 5, 7).double().sigmoid()
    pooled = log_sum_exp_pool(values, everywhere(values), 1e6)
    torch.testing.assert_close(pooled, values.amax(dim=(2, 3)), rtol=0, atol=1e-5)


@settings(max_examples=50)
@given(
    sharpness=st.floats(1e-3, 1e3),
    factor=st.floats(1.01, 10),
    level=st.floats(1e-3, 1),
    seed=st.integers(0, 999),
)
def test_pooling_rises_from_mean_to_maximum(
    sharpness: float, factor: float, level: float, seed: int
) -> None:
    values = level * torch.rand(
        1, 2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.double
    )
    softer = log_sum_exp_pool(values, everywhere(values), sharpness)
    sharper = log_sum_exp_pool(values, everywhere(values), factor * sharpness)
    assert (values.mean(dim=(2, 3)) <= softer).all()
    assert (softer <= sharper).all()
    assert (sharper <= values.amax(dim=(2, 3))).all()


@pytest.mark.parametrize("sharpness", [0.1, 5.0, 100.0])
def test_pooling_is_log_mean_exp(sharpness: float) -> None:
    values, cells = random(2, 3, 5, 7).double().sigmoid(), random(2, 5, 7, seed=1) > 0
    pooled = log_sum_exp_pool(values, cells, sharpness)
    for b, n in np.ndindex(2, 3):
        powers = values[b, n][cells[b]].mul(sharpness).exp()
        assert pooled[b, n].item() == pytest.approx(math.log(powers.mean()) / sharpness)


def test_pooling_of_tiny_values_keeps_their_digits() -> None:
    """Equal to their mean to first order; a plain log of a mean of exponentials gives 0."""
    values = (random(1, 1, 4, 4).double().sigmoid() * 1e-18).requires_grad_()
    pooled = log_sum_exp_pool(values, everywhere(values), 5.0)
    assert pooled.item() == pytest.approx(values.mean().item(), rel=1e-6)


def test_pooling_over_no_cells_is_zero_without_gradient() -> None:
    values, cells = random(2, 3, 4, 4).requires_grad_(), torch.zeros(2, 4, 4, dtype=torch.bool)
    cells[0, 1, 2] = True
    pooled = log_sum_exp_pool(values, cells, 5.0)
    torch.testing.assert_close(pooled[0], values[0, :, 1, 2])
    assert not pooled[1].any()
    pooled.sum().backward()
    assert values.grad is not None and not values.grad[1].any()
    assert values.grad[0].count_nonzero() == 3


def test_the_gradient_of_pooling_is_a_softmax_over_cells() -> None:
    values = random(1, 1, 3, 4).double().requires_grad_()
    log_sum_exp_pool(values, everywhere(values), 5.0).sum().backward()
    expected = (5.0 * values.detach()).flatten().softmax(dim=0)
    assert values.grad is not None
    torch.testing.assert_close(values.grad.flatten(), expected)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.nan])
def test_a_sharpness_that_is_not_above_zero_is_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        prior_terms(random(2, 4, 4, 4), TAGS, random_mask(8), sharpness)


def slow_pool(shares: list[float], sharpness: float) -> float:
    return math.log(sum(math.exp(sharpness * p) for p in shares) / len(shares)) / sharpness


def slow_terms(
    score: Tensor, tags: Tensor, mask: Tensor, stride: int, sharpness: float
) -> list[tuple[float, int]]:
    """(Total, number) of the three parts, cell by cell."""
    parts = [[0.0, 0], [0.0, 0], [0.0, 0]]

    def add(part: int, probability: float) -> None:
        parts[part][0] -= math.log(probability)
        parts[part][1] += 1

    for b in range(len(score)):
        if not tags[b].any():
            continue
        cells: dict[int, list[list[float]]] = {0: [], 1: [], 255: []}
        for row, column in np.ndindex(*score.shape[-2:]):
            exponents = [math.exp(x) for x in score[b, :, row, column].tolist()]
            shares = [x / sum(exponents) for x in exponents]
            cells[int(mask[b, row * stride, column * stride])].append(shares)
        for c in range(tags.shape[1]):
            if tags[b, c] and cells[1]:
                add(0, slow_pool([shares[c + 1] for shares in cells[1]], sharpness))
            if not tags[b, c] and cells[0] + cells[1]:
                known = cells[0] + cells[1]
                add(2, 1 - slow_pool([shares[c + 1] for shares in known], sharpness))
        if cells[0]:
            add(1, slow_pool([shares[0] for shares in cells[0]], sharpness))
    return [(total, number) for total, number in parts]


@pytest.mark.parametrize(("size", "cells", "stride"), [(33, 5, 8), (9, 5, 2), (8, 4, 2), (5, 5, 1)])
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("first", ["as drawn", "no foreground", "all foreground", "unknown"])
def test_the_loss_is_that_of_a_loop_over_cells(
    size: int, cells: int, stride: int, sharpness: float, first: str
) -> None:
    score, mask = 2 * random(2, 4, cells, cells), random_mask(size)
    if first != "as drawn":
        mask[0] = {"no foreground": 0, "all foreground": 1, "unknown": 255}[first]
    terms = prior_terms(score, TAGS, mask, sharpness)
    for term, (expected, number) in zip(
        terms, slow_terms(score, TAGS, mask, stride, sharpness), strict=True
    ):
        assert term.total.item() == pytest.approx(expected, rel=1e-4)
        assert term.number.item() == number
        assert term.total.dtype == term.number.dtype == torch.float32
        assert not term.number.requires_grad


def test_each_part_pushes_its_channels_where_it_should() -> None:
    score = random(1, 4, 4, 4).requires_grad_()
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[:, 1:3, 1:3], mask[:, 3] = 1, 255
    inside, unknown = mask[0] == 1, mask[0] == 255
    terms = prior_terms(score, TAGS[:1], mask)
    reach = {"present": inside, "background": mask[0] == 0, "absent": ~unknown}
    for name, cells in reach.items():
        (gradient,) = torch.autograd.grad(getattr(terms, name).total, score, retain_graph=True)
        assert gradient[0][:, cells].abs().min() > 0
        assert not gradient[0][:, ~cells].any()
        if name == "background":  # descent raises it, and lowers all classes
            assert (gradient[0, 0][cells] < 0).all() and (gradient[0, 1:][:, cells] > 0).all()
        if name == "absent":
            assert (gradient[0, 2][cells] > 0).all() and (gradient[0, 0][cells] < 0).all()
    alone = prior_terms(score, torch.tensor([[1.0, 0.0, 0.0]]), mask).present.total
    (gradient,) = torch.autograd.grad(alone, score)
    assert (gradient[0, 1][inside] < 0).all() and (gradient[0, [0, 2, 3]][:, inside] > 0).all()


def test_descent_puts_tags_inside_and_background_outside() -> None:
    score = (0.1 * random(2, 4, 6, 6)).requires_grad_()
    mask = torch.zeros(2, 6, 6, dtype=torch.uint8)
    mask[:, 1:5, 2:5] = 1
    optimizer = torch.optim.Adam([score], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        total(prior_terms(score, TAGS, mask)).backward()
        optimizer.step()
    winners = score.argmax(dim=1)
    assert not winners[mask == 0].any()
    assert set(winners[0][mask[0] == 1].tolist()) == {1, 3}
    assert set(winners[1][mask[1] == 1].tolist()) == {2}


def test_images_without_tags_count_nothing() -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    mask = torch.ones(2, 8, 8, dtype=torch.uint8)
    mask[:, :4] = 0
    both = prior_terms(score, torch.stack([TAGS[0], torch.zeros(3)]), mask)
    assert means(both) == pytest.approx(means(prior_terms(score[:1], TAGS[:1], mask[:1])))
    total(both).backward()
    assert score.grad is not None and score.grad[0].any() and not score.grad[1].any()


@pytest.mark.parametrize(
    ("tags", "level", "numbers"),
    [
        (torch.zeros(2, 3), 1, [0, 0, 0]),
        (TAGS, 255, [0, 0, 0]),
        (TAGS, 0, [0, 2, 3]),
        (TAGS, 1, [3, 0, 3]),
        (torch.ones(2, 3), 0, [0, 2, 0]),
    ],
)
def test_parts_without_a_cell_or_class_are_zero(
    tags: Tensor, level: int, numbers: list[int]
) -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    terms = prior_terms(score, tags, torch.full((2, 8, 8), level, dtype=torch.uint8))
    assert [term.number.item() for term in terms] == numbers
    assert [mean_of(term).item() == 0.0 for term in terms] == [n == 0 for n in numbers]
    total(terms).backward()
    assert score.grad is not None and score.grad.isfinite().all()
    assert score.grad.any() == any(numbers)


@pytest.mark.parametrize("level", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("sharpness", [1e-3, 5.0, 1e4])
def test_loss_and_gradient_are_finite_however_sure_the_scores(
    level: float, sharpness: float
) -> None:
    score = (level * random(2, 4, 4, 4)).requires_grad_()
    terms = prior_terms(score, TAGS, random_mask(8), sharpness)
    assert all(math.isfinite(mean) for mean in means(terms))
    total(terms).backward()
    assert score.grad is not None and score.grad.isfinite().all()


def test_a_sure_mistake_is_still_pushed_back() -> None:
    """Where float32 has a probability of 1 and no gradient left."""
    score = torch.zeros(1, 3, 2, 2)
    score[:, 2] = 25.0
    score.requires_grad_()
    mask = torch.ones(1, 2, 2, dtype=torch.uint8)
    terms = prior_terms(score, torch.tensor([[1.0, 0.0]]), mask)
    (up,) = torch.autograd.grad(terms.present.total, score, retain_graph=True)
    (down,) = torch.autograd.grad(terms.absent.total, score)
    assert up[:, 1].sum().item() == pytest.approx(-1.0, rel=1e-3)
    assert down[:, 2].sum().item() == pytest.approx(1.0, rel=1e-3)


def test_half_precision_scores_are_pooled_in_full() -> None:
    score, mask = random(2, 4, 33, 33), random_mask(33)
    half = prior_terms(score.bfloat16(), TAGS, mask)
    assert all(term.total.dtype == torch.float32 for term in half)
    assert means(half) == pytest.approx(means(prior_terms(score, TAGS, mask)), rel=1e-2)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="20 cells does not belong to 33 pixels"):
        prior_terms(random(2, 4, 20, 20), TAGS, random_mask(33))
