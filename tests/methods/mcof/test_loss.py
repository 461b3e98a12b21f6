"""Labels of superpixels against a reading of their definition, region by region; their loss."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from dcsp.methods.mcof.loss import RegionObjective, region_labels
from dcsp.methods.mcof.network import RegionScores

LABELS = 21


def slow_labels(regions: np.ndarray, seeds: np.ndarray, count: int, min_share: float) -> list[int]:
    labels = []
    for region in range(count):
        inside = seeds[regions == region].tolist()
        seen = Counter(label for label in inside if label != 255)
        label, most = min(seen.items(), key=lambda item: (-item[1], item[0]), default=(255, 0))
        labels.append(label if inside and most / len(inside) >= min_share else 255)
    return labels


@given(
    st.integers(0, 9999),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 2 / 3, 0.7, 1.0]),
    st.sampled_from([[0, 255], [0, 3, 20, 255], [1, 19], [255], [0]]),
)
def test_labels_of_superpixels_are_the_definition(seed: int, share: float, ids: list[int]) -> None:
    rng = np.random.default_rng(seed)
    counts = [20, 7]
    regions = np.stack([rng.integers(0, n - 1, (9, 11)) for n in counts])  # the last is not shown
    seeds = rng.choice(ids, regions.shape).astype(np.uint8)
    found = region_labels(
        torch.from_numpy(regions).int(), torch.from_numpy(seeds), counts, LABELS, share
    )
    expected: list[int] = []
    for pair in zip(regions, seeds, counts, strict=True):
        expected += slow_labels(*pair, share)
    assert found.tolist() == expected


@pytest.mark.parametrize(("share", "label"), [(0.69, 5), (0.7, 5), (0.71, 255)])
def test_a_share_is_reached_exactly(share: float, label: int) -> None:
    seeds = torch.tensor([[[5] * 7 + [255] * 3]], dtype=torch.uint8)
    found = region_labels(torch.zeros(1, 1, 10, dtype=torch.int32), seeds, [1], LABELS, share)
    assert found.tolist() == [label]


def test_the_loss_is_the_mean_over_labelled_superpixels() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = {
        "regions": torch.tensor([[[0, 0, 1, 2]]], dtype=torch.int32),
        "cue": torch.tensor([[[2, 2, 255, 0]]], dtype=torch.uint8),
    }
    losses = RegionObjective(min_share=0.5)(RegionScores(logits, [3]), batch)
    expected = functional.cross_entropy(logits[[0, 2]], torch.tensor([2, 0]))
    assert losses.total.item() == pytest.approx(expected.item())
    losses.total.backward()
    assert logits.grad is not None and not logits.grad[1].any()


def test_nothing_labelled_costs_nothing() -> None:
    logits = torch.randn(1, 4, requires_grad=True)
    batch = {
        "regions": torch.zeros(1, 2, 2, dtype=torch.int32),
        "cue": torch.full((1, 2, 2), 255, dtype=torch.uint8),
    }
    losses = RegionObjective(min_share=0.5)(RegionScores(logits, [1]), batch)
    losses.total.backward()
    assert losses.total.item() == 0.0 and logits.grad is not None and not logits.grad.any()
