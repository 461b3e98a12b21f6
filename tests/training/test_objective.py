"""The losses, against torch's own means and a per-pixel loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dcsp.config import TrainSettings
from dcsp.training.objective import (
    Objective,
    classification_term,
    saliency_term,
    segmentation_term,
)


class Maps(NamedTuple):
    score_map: Tensor
    attention: Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
WHOLE = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8]], dtype=torch.int32)


def test_classification_is_the_mean_over_batch_and_classes() -> None:
    logits = random(2, 3)
    expected = F.binary_cross_entropy_with_logits(logits, TAGS)
    assert classification_term(logits, TAGS).mean().item() == pytest.approx(expected.item())


def test_an_image_without_tags_says_nothing() -> None:
    logits = random(2, 3).requires_grad_()
    term = classification_term(logits, torch.stack([TAGS[0], torch.zeros(3)]))
    alone = F.binary_cross_entropy_with_logits(logits[:1], TAGS[:1])
    assert term.mean().item() == pytest.approx(alone.item())
    term.mean().backward()
    assert logits.grad is not None and not logits.grad[1].any()


def test_segmentation_is_the_mean_over_labelled_pixels() -> None:
    score = random(2, 4, 5, 7)
    cue = torch.randint(0, 4, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    cue[0, :3] = 255
    expected = F.cross_entropy(score, cue, ignore_index=255)
    term = segmentation_term(score, cue.to(torch.uint8))
    assert term.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    assert term.number.item() == (cue != 255).sum()


@pytest.mark.parametrize(("size", "cells"), [(321, 41), (224, 14), (224, 28), (97, 13)])
def test_the_cue_is_resized_to_the_nearest_pixel_of_each_cells_centre(
    size: int, cells: int
) -> None:
    cue = torch.randint(0, 3, (1, size, size), generator=torch.Generator().manual_seed(1))
    nearest = F.interpolate(cue[None].float(), (cells, cells), mode="nearest-exact")[0].long()
    score = random(1, 3, cells, cells)
    expected = F.cross_entropy(score, nearest)
    assert segmentation_term(score, cue).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_labelled_pixel_gives_zero_and_no_gradient() -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    term = segmentation_term(score, torch.full((2, 8, 8), 255, dtype=torch.uint8))
    term.mean().backward()
    assert term.mean().item() == 0.0
    assert score.grad is not None and not score.grad.any()


def test_saliency_is_the_squared_error_of_the_tags_summed_probability() -> None:
    score = random(2, 4, 4, 4)
    saliency = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8))
    total = 0.0
    for b in range(2):
        for y in range(4):
            for x in range(4):
                exponents = score[b, :, y, x].exp()
                tagged = sum(exponents[1 + c] for c in range(3) if TAGS[b, c]) / exponents.sum()
                cell = saliency[b, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].float().mean() / 255
                total += float((tagged - cell) ** 2)
    term = saliency_term(score, TAGS, saliency, WHOLE)
    assert term.mean().item() == pytest.approx(total / 32, rel=1e-5)


def test_saliency_counts_no_padding_and_no_image_without_tags() -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    saliency = torch.full((2, 8, 8), 200, dtype=torch.uint8)
    tags = torch.stack([TAGS[0], torch.zeros(3)])
    term = saliency_term(score, tags, saliency, torch.tensor([[0, 0, 8, 3], [0, 0, 8, 8]]))
    term.total.backward()
    assert term.number.item() == 4 * 2  # of the second column, half of each cell is known
    assert score.grad is not None
    assert score.grad[0, :, :, :2].any() and not score.grad[0, :, :, 2:].any()
    assert not score.grad[1].any()


def test_a_half_known_cell_is_averaged_over_what_is_known() -> None:
    saliency = torch.zeros(1, 8, 8, dtype=torch.uint8)
    saliency[:, :, :3] = 255
    score = torch.zeros(1, 2, 4, 4)
    score[:, 1] = 50.0
    term = saliency_term(score, torch.ones(1, 1), saliency, torch.tensor([[0, 0, 8, 3]]))
    assert term.mean().item() == pytest.approx(0.0, abs=1e-6)


def batch(crop: int = 8) -> dict[str, Tensor]:
    cue = torch.randint(0, 4, (2, crop, crop), generator=torch.Generator().manual_seed(0))
    return {
        "tags": TAGS,
        "cue": cue.to(torch.uint8),
        "saliency": torch.full((2, crop, crop), 128, dtype=torch.uint8),
        "valid": WHOLE,
    }


def test_the_joint_objective_is_a_real_weighted_sum() -> None:
    score, logits = random(2, 4, 4, 4), random(2, 3)
    settings = TrainSettings(saliency_weight=5.0, classification_weight=0.5)
    objective = Objective("joint", settings)
    losses = objective(Maps(score, score[:, 1:]), logits, batch())
    named = dict(zip(objective.names, losses.values.tolist(), strict=True))
    classification = classification_term(logits, TAGS).mean().item()
    segmentation = segmentation_term(score, batch()["cue"]).mean().item()
    saliency = saliency_term(score, TAGS, batch()["saliency"], WHOLE).mean().item()
    whole = 0.5 * classification + segmentation + 5.0 * saliency
    assert named == pytest.approx(
        {
            "loss": whole,
            "classification": classification,
            "segmentation": segmentation,
            "saliency": saliency,
        }
    )
    assert losses.total.item() == pytest.approx(whole)


def test_the_papers_fcan_objective_is_classification_alone_and_reads_no_cue() -> None:
    objective = Objective("fcan", TrainSettings())
    assert objective.columns == ("tags",)
    assert objective.names == ("loss", "classification")
    score, logits = random(2, 4, 4, 4), random(2, 3)
    losses = objective(Maps(score, score[:, 1:]), logits, {"tags": TAGS})
    assert losses.total.item() == pytest.approx(
        F.binary_cross_entropy_with_logits(logits, TAGS).item()
    )


def test_the_papers_joint_objective_needs_tags_and_cues() -> None:
    assert Objective("joint", TrainSettings()).columns == ("tags", "cue")
    with_saliency = Objective("joint", TrainSettings(saliency_weight=1.0))
    assert with_saliency.columns == ("tags", "cue", "saliency", "valid")


def test_scores_of_half_precision_are_summed_in_full() -> None:
    score = random(2, 4, 64, 64)
    cue = torch.randint(0, 4, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    half = segmentation_term(score.bfloat16(), cue)
    assert half.total.dtype == torch.float32
    assert half.mean().item() == pytest.approx(F.cross_entropy(score, cue).item(), rel=1e-2)
