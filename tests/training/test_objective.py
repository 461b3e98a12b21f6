"""The losses, against torch's own means and a per-pixel loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dcsp.config import TrainSettings
from dcsp.training.objective import (
    ScoreObjective,
    classification_term,
    saliency_term,
    segmentation_term,
)
from tests.training.tiny import mean_of


class Maps(NamedTuple):
    score_map: Tensor
    attention: Tensor


def maps_of(score: Tensor) -> Maps:
    """Scores whose class channels are the attention as well."""
    return Maps(score, score[:, 1:])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
WHOLE = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8]], dtype=torch.int32)


def test_classification_is_the_mean_over_batch_and_classes() -> None:
    logits = random(2, 3)
    expected = F.binary_cross_entropy_with_logits(logits, TAGS)
    assert mean_of(classification_term(logits, TAGS)).item() == pytest.approx(expected.item())


def test_an_image_without_tags_says_nothing() -> None:
    logits = random(2, 3).requires_grad_()
    term = classification_term(logits, torch.stack([TAGS[0], torch.zeros(3)]))
    alone = F.binary_cross_entropy_with_logits(logits[:1], TAGS[:1])
    assert mean_of(term).item() == pytest.approx(alone.item())
    mean_of(term).backward()
    assert logits.grad is not None and not logits.grad[1].any()


def test_segmentation_is_the_mean_over_labelled_pixels() -> None:
    score = random(2, 4, 5, 7)
    cue = torch.randint(0, 4, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    cue[0, :3] = 255
    expected = F.cross_entropy(score, cue, ignore_index=255)
    term = segmentation_term(score, cue.to(torch.uint8))
    assert mean_of(term).item() == pytest.approx(expected.item(), rel=1e-5)
    assert term.number.item() == (cue != 255).sum()


@pytest.mark.parametrize(
    ("size", "cells", "stride"),
    [(321, 41, 8), (225, 15, 16), (97, 13, 8), (65, 5, 16), (33, 3, 16)],
)
def test_the_cue_is_read_at_the_pixels_that_cells_are_centred_on(
    size: int, cells: int, stride: int
) -> None:
    cue = torch.randint(0, 3, (1, size, size), generator=torch.Generator().manual_seed(1))
    corners = F.interpolate(
        cue[None].double(), (cells, cells), mode="bilinear", align_corners=True
    )[0].round()
    picked = cue[:, [[stride * i] for i in range(cells)], [stride * i for i in range(cells)]]
    assert torch.equal(picked, corners.long())
    score = random(1, 3, cells, cells)
    expected = F.cross_entropy(score, picked)
    assert mean_of(segmentation_term(score, cue)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("size", [30, 32, 33, 40, 47, 48, 49])
def test_cues_lie_where_the_network_looks_whatever_the_crop(size: int) -> None:
    """A strided sampling stands for the network: no loss where each cell says what it sees."""
    cue = torch.randint(0, 3, (1, size, size), generator=torch.Generator().manual_seed(1))
    one_hot = F.one_hot(cue, 3).permute(0, 3, 1, 2).float()
    score = F.conv2d(one_hot, torch.eye(3)[:, :, None, None], stride=16) * 100
    assert mean_of(segmentation_term(score, cue)).item() == pytest.approx(0.0, abs=1e-6)


def test_a_cue_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="20 cells does not belong to 33 pixels"):
        segmentation_term(random(1, 3, 20, 20), torch.zeros(1, 33, 33, dtype=torch.uint8))


def test_no_labelled_pixel_gives_zero_and_no_gradient() -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    term = segmentation_term(score, torch.full((2, 8, 8), 255, dtype=torch.uint8))
    mean_of(term).backward()
    assert mean_of(term).item() == 0.0
    assert score.grad is not None and not score.grad.any()


def slow_saliency(
    score: Tensor, tags: Tensor, saliency: Tensor, valid: Tensor, stride: int, form: str
) -> tuple[float, int]:
    """Loss and number of cells that count, cell by cell and pixel by pixel."""
    total, number = 0.0, 0
    size, reach = saliency.shape[-1], stride // 2
    for b, row, column in np.ndindex(len(score), *score.shape[-2:]):
        top, left, bottom, right = valid[b].tolist()
        window = [
            (y, x)
            for y in range(row * stride - reach, row * stride + reach + 1)
            for x in range(column * stride - reach, column * stride + reach + 1)
            if 0 <= y < size and 0 <= x < size
        ]
        known = [(y, x) for y, x in window if top <= y < bottom and left <= x < right]
        if len(known) < len(window) / 2 or not tags[b].any():
            continue
        salient = float(np.mean([saliency[b, y, x].item() for y, x in known])) / 255
        exponents = score[b, :, row, column].double().exp()
        shares = (exponents / exponents.sum()).tolist()
        tagged = sum(shares[1 + c] for c in range(tags.shape[1]) if tags[b, c])
        if form == "squared":
            total += (tagged - salient) ** 2
        else:
            total -= salient * np.log(tagged) + (1 - salient) * np.log(shares[0])
        number += 1
    return total, number


def random_saliency(size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, size, size), np.uint8))


@pytest.mark.parametrize("form", ["squared", "cross_entropy"])
@pytest.mark.parametrize(("size", "cells", "stride"), [(33, 5, 8), (9, 5, 2), (8, 4, 2), (5, 5, 1)])
@pytest.mark.parametrize("padded", [False, True])
def test_saliency_is_the_error_of_the_tags_summed_probability(
    form: Any, size: int, cells: int, stride: int, padded: bool
) -> None:
    score, saliency = 2 * random(2, 4, cells, cells), random_saliency(size)
    valid = torch.tensor([[0, 0, size, size]] * 2, dtype=torch.int32)
    if padded:
        valid[0] = torch.tensor([1, 2, size - 2, size])
        valid[1] = torch.tensor([0, 0, size - 1, size // 2])
    total, number = slow_saliency(score, TAGS, saliency, valid, stride, form)
    term = saliency_term(score, TAGS, saliency, valid, form)
    assert term.total.item() == pytest.approx(total, rel=1e-4)
    assert term.number.item() == number
    assert (number < 2 * cells * cells) == padded


def test_saliency_of_a_ramp_is_that_of_the_pixels_cells_are_centred_on() -> None:
    ramp = torch.arange(0, 231, 7, dtype=torch.uint8).expand(1, 33, 33)  # 7 a pixel
    inner = ramp[0, 0, 8:32:8].float() / 255  # the outermost windows are cut at the edge
    score = torch.zeros(1, 2, 5, 5)
    score[:, 1, :, 1:4] = torch.logit(inner)
    valid = torch.tensor([[0, 0, 33, 33]])
    term = saliency_term(score.requires_grad_(), torch.ones(1, 1), ramp, valid)
    term.total.backward()
    assert score.grad is not None
    assert score.grad[..., 1:4].abs().max() < 1e-6 and score.grad[..., [0, 4]].abs().min() > 1e-3


@pytest.mark.parametrize("form", ["squared", "cross_entropy"])
def test_saliency_counts_no_padding_and_no_image_without_tags(form: Any) -> None:
    score = random(2, 4, 4, 4).requires_grad_()
    saliency = torch.full((2, 8, 8), 200, dtype=torch.uint8)
    tags = torch.stack([TAGS[0], torch.zeros(3)])
    term = saliency_term(score, tags, saliency, torch.tensor([[0, 0, 8, 3], [0, 0, 8, 8]]), form)
    term.total.backward()
    # Of the windows around pixels 0, 2, 4, 6, cut at the edge, 2/2, 2/3, 0/3, 0/3 columns are known
    assert term.number.item() == 4 * 2
    assert term.total.isfinite()
    assert score.grad is not None and score.grad.isfinite().all()
    assert score.grad[0, :, :, :2].any() and not score.grad[0, :, :, 2:].any()
    assert not score.grad[1].any()


@pytest.mark.parametrize("form", ["squared", "cross_entropy"])
def test_a_partly_known_cell_is_averaged_over_what_is_known(form: Any) -> None:
    saliency = torch.zeros(1, 8, 8, dtype=torch.uint8)
    saliency[:, :, :3] = 255
    score = torch.zeros(1, 2, 4, 4)
    score[:, 1] = 50.0
    term = saliency_term(score, torch.ones(1, 1), saliency, torch.tensor([[0, 0, 8, 3]]), form)
    assert mean_of(term).item() == pytest.approx(0.0, abs=1e-6)


def test_cross_entropy_asks_for_background_where_nothing_is_salient() -> None:
    tags, valid = torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 0, 8, 8]])
    for salient, wanted in ((0, 0), (255, 1)):
        score = random(1, 3, 4, 4).requires_grad_()
        saliency = torch.full((1, 8, 8), salient, dtype=torch.uint8)
        mean_of(saliency_term(score, tags, saliency, valid, "cross_entropy")).backward()
        assert score.grad is not None
        signs = torch.full((3,), 1.0)
        signs[wanted] = -1.0  # descent raises the wanted channel alone, and lowers absent classes
        assert torch.equal(score.grad.sign(), signs[None, :, None, None].expand(1, 3, 4, 4))


def test_squared_error_leaves_background_and_absent_classes_alike() -> None:
    """What the cross-entropy is for: the squared error has no say in which of them wins."""
    score = torch.zeros(1, 3, 4, 4, requires_grad=True)
    saliency, valid = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.tensor([[0, 0, 8, 8]])
    mean_of(saliency_term(score, torch.tensor([[1.0, 0.0]]), saliency, valid)).backward()
    assert score.grad is not None
    torch.testing.assert_close(score.grad[:, 0], score.grad[:, 2])


@pytest.mark.parametrize("tags", [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("level", [1.0, 200.0])
@pytest.mark.parametrize("form", ["squared", "cross_entropy"])
def test_saliency_and_its_gradient_are_finite_however_sure_the_scores(
    form: Any, level: float, tags: list[float]
) -> None:
    score = (level * random(2, 4, 4, 4)).requires_grad_()
    term = saliency_term(score, torch.tensor([tags] * 2), random_saliency(8), WHOLE, form)
    mean_of(term).backward()
    assert mean_of(term).isfinite()
    assert score.grad is not None and score.grad.isfinite().all()


def test_the_settings_choose_the_form_of_the_saliency_loss() -> None:
    score = random(2, 4, 4, 4)
    for form in ("squared", "cross_entropy"):
        settings = TrainSettings(saliency_weight=1.0, saliency_loss=form)
        losses = ScoreObjective(settings, cues=False)(maps_of(score), batch())
        expected = mean_of(saliency_term(score, TAGS, batch()["saliency"], WHOLE, form))
        assert losses.values[-1].item() == pytest.approx(expected.item())
    assert TrainSettings().saliency_loss == "squared"


def batch(crop: int = 8) -> dict[str, Tensor]:
    cue = torch.randint(0, 4, (2, crop, crop), generator=torch.Generator().manual_seed(0))
    return {
        "tags": TAGS,
        "cue": cue.to(torch.uint8),
        "saliency": torch.full((2, crop, crop), 128, dtype=torch.uint8),
        "valid": WHOLE,
    }


def test_the_joint_objective_is_a_real_weighted_sum() -> None:
    score = random(2, 4, 4, 4)
    logits = score[:, 1:].mean(dim=(2, 3))
    settings = TrainSettings(saliency_weight=5.0, classification_weight=0.5)
    objective = ScoreObjective(settings, cues=True)
    losses = objective(maps_of(score), batch())
    named = dict(zip(objective.names, losses.values.tolist(), strict=True))
    classification = mean_of(classification_term(logits, TAGS)).item()
    segmentation = mean_of(segmentation_term(score, batch()["cue"])).item()
    saliency = mean_of(saliency_term(score, TAGS, batch()["saliency"], WHOLE)).item()
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
    objective = ScoreObjective(TrainSettings(), cues=False)
    assert objective.columns == ("tags",)
    assert objective.names == ("loss", "classification")
    score = random(2, 4, 4, 4)
    logits = score[:, 1:].mean(dim=(2, 3))
    losses = objective(maps_of(score), {"tags": TAGS})
    assert losses.total.item() == pytest.approx(
        F.binary_cross_entropy_with_logits(logits, TAGS).item()
    )


def test_the_papers_joint_objective_needs_tags_and_cues() -> None:
    assert ScoreObjective(TrainSettings(), cues=True).columns == ("tags", "cue")
    with_saliency = ScoreObjective(TrainSettings(saliency_weight=1.0), cues=True)
    assert with_saliency.columns == ("tags", "cue", "saliency", "valid")


def test_scores_of_half_precision_are_summed_in_full() -> None:
    score = random(2, 4, 64, 64)
    cue = torch.randint(0, 4, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    half = segmentation_term(score.bfloat16(), cue)
    assert half.total.dtype == torch.float32
    assert mean_of(half).item() == pytest.approx(F.cross_entropy(score, cue).item(), rel=1e-2)
