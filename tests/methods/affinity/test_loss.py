"""The affinity loss, against a loop over pairs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dcsp.methods.affinity.loss import WEIGHTS, AffinityTerms, affinity_terms
from dcsp.methods.affinity.walk import pair_offsets
from tests.training.tiny import mean_of


def whole(terms: AffinityTerms) -> Tensor:
    return sum((WEIGHTS[n] * mean_of(t) for n, t in terms._asdict().items()), torch.zeros(()))


def reference(
    features: NDArray[np.float64], labels: NDArray[np.uint8], radius: int
) -> dict[str, list[float]]:
    """The loss of every pair, by kind: each two cells of an image nearer than ``radius``."""
    losses: dict[str, list[float]] = {"background": [], "foreground": [], "negative": []}
    cells = list(product(range(labels.shape[1]), range(labels.shape[2])))
    for image in range(len(labels)):
        for number, p in enumerate(cells):
            for q in cells[number + 1 :]:
                one, two = labels[image, *p], labels[image, *q]
                if np.hypot(p[0] - q[0], p[1] - q[1]) >= radius or 255 in (one, two):
                    continue
                a = math.exp(-np.abs(features[image, :, *p] - features[image, :, *q]).mean())
                if one != two:
                    losses["negative"].append(-math.log(1 + 1e-5 - a))
                else:
                    losses["foreground" if one else "background"].append(-math.log(a))
    return losses


def scene(batch: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, 3, height, width, generator=generator)
    choice = torch.randint(0, 4, (batch, height, width), generator=generator)
    return features, torch.tensor([0, 1, 7, 255], dtype=torch.uint8)[choice]


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([2, 5]),
    st.integers(0, 99),
)
def test_sums_and_counts_are_those_of_all_pairs(
    batch: int, height: int, width: int, radius: int, seed: int
) -> None:
    features, labels = scene(batch, height, width, seed)
    found = affinity_terms(features, labels, pair_offsets(radius))
    for name, losses in reference(features.double().numpy(), labels.numpy(), radius).items():
        term = getattr(found, name)
        assert term.number.item() == len(losses)
        assert term.total.item() == pytest.approx(sum(losses), rel=1e-5, abs=1e-5)


def test_gradients_are_those_of_the_loop() -> None:
    features, labels = scene(1, 4, 4, 3)
    exact = features.double().requires_grad_()
    offsets = pair_offsets(3)
    whole(affinity_terms(exact, labels, offsets)).backward()
    assert exact.grad is not None

    def value(at: NDArray[np.float64]) -> float:
        losses = reference(at, labels.numpy(), 3)
        assert all(losses.values())
        return sum(WEIGHTS[name] * float(np.mean(terms)) for name, terms in losses.items())

    start, step = features.double().numpy(), 1e-6
    for cell in product(range(1), range(3), range(4), range(4)):
        change = np.zeros_like(start)
        change[cell] = step
        slope = (value(start + change) - value(start - change)) / (2 * step)
        assert exact.grad[cell].item() == pytest.approx(slope, abs=1e-7)


def test_images_do_not_mix_and_their_terms_add_up() -> None:
    features, labels = scene(3, 5, 6, 1)
    offsets = pair_offsets(5)
    together = affinity_terms(features, labels, offsets)
    alone = [affinity_terms(features[i : i + 1], labels[i : i + 1], offsets) for i in range(3)]
    for index, term in enumerate(together):
        assert term.number.item() == sum(terms[index].number.item() for terms in alone)
        total = sum(terms[index].total.item() for terms in alone)
        assert term.total.item() == pytest.approx(total, rel=1e-5)


def test_cells_of_unlike_labels_with_equal_features_have_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 1], [2, 1]]])
    loss = affinity_terms(features, labels, pair_offsets(5)).negative
    assert mean_of(loss).item() == pytest.approx(-math.log(1e-5), rel=1e-4)
    mean_of(loss).backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_cells_far_apart_have_a_finite_gradient() -> None:
    features, labels = scene(1, 4, 4, 0)
    features = (features * 1000).requires_grad_()
    whole(affinity_terms(features, labels, pair_offsets(5))).backward()
    assert features.grad is not None and features.grad.isfinite().all()


@pytest.mark.parametrize("label", [0, 1, 255])
def test_kinds_without_pairs_are_zero(label: int) -> None:
    features = torch.randn(1, 2, 3, 3, requires_grad=True)
    labels = torch.full((1, 3, 3), label, dtype=torch.uint8)
    terms = affinity_terms(features, labels, pair_offsets(5))
    empty = [name for name, term in terms._asdict().items() if not term.number.item()]
    present = {0: "background", 1: "foreground"}.get(label)
    assert empty == [name for name in terms._fields if name != present]
    assert all(mean_of(getattr(terms, name)).item() == 0 for name in empty)
    whole(terms).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all() and bool(features.grad.any()) == (present is not None)


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong"):
        affinity_terms(torch.zeros(1, 2, 3, 4), torch.zeros(1, 4, 3), pair_offsets(2))
