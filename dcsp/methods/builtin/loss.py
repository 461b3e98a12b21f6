"""The weakly supervised loss of the built-in priors (Saleh et al. 2016; method 4).

Tags say which classes there are, the foreground mask roughly where: each present class is pushed up
inside the mask, the background outside of it, and absent classes are pushed down everywhere.

Dimensions: B images of a rank, C classes, K = C + 1 with background, N ≤ K some of them,
h, w score map, H, W crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dcsp.labels import IGNORE
from dcsp.training.objective import ScoreMaps
from dcsp.training.terms import Term, at_cells, inside_boxes

_LEAST = 1e-16  # pooled probabilities, and what they lack to 1, are clipped here


class PriorTerms(NamedTuple):
    """The three parts of the loss; each adds up −log of a probability, one a pooled map.

    Attributes:
        present: Over the tagged classes of images with foreground.
        background: Over the images with background.
        absent: Over the classes without a tag of the images with a mask.
    """

    present: Term
    background: Term
    absent: Term


def log_sum_exp_pool(values_BNhw: Tensor, cells_Bhw: Tensor, sharpness: float) -> Tensor:
    """Log-sum-exp pooling: (1/r) log of the mean of exp(r·x) over some of an image's cells.

    It lies between the mean, its limit for r → 0, and the maximum, that for r → ∞. It is as
    precise for values near 0 as for others, so that the logarithm of it can be taken.

    Args:
        values_BNhw: Float, finite.
        cells_Bhw: Bool: the cells that count, of all N maps of an image.
        sharpness: r, above 0.

    Returns:
        (B, N) of the dtype of the values; 0, with gradients 0, where no cell counts.

    Raises:
        ValueError: The sharpness is not above 0.
    """
    if not sharpness > 0:
        raise ValueError(f"The sharpness must be above 0, got {sharpness}.")
    outside_B1hw = ~cells_Bhw[:, None]
    number_B1 = cells_Bhw.sum(dim=(1, 2))[:, None]
    # Around the maximum nothing overflows. The result does not depend on it: no gradient needed.
    highest_BN = values_BNhw.detach().masked_fill(outside_B1hw, -torch.inf).amax(dim=(2, 3))
    highest_BN = highest_BN.masked_fill(number_B1 == 0, 0.0)
    exponents_BNhw = sharpness * (values_BNhw - highest_BN[:, :, None, None])
    # exp(x) − 1 keeps the digits that a sum near 1 would lose.
    powers_BNhw = exponents_BNhw.masked_fill(outside_B1hw, 0.0).expm1()
    means_BN = powers_BNhw.sum(dim=(2, 3)) / number_B1.clamp(min=1)
    return highest_BN + means_BN.log1p() / sharpness


def prior_terms(
    score_BKhw: Tensor, tags_BC: Tensor, mask_BHW: Tensor, sharpness: float = 5.0
) -> PriorTerms:
    """The loss of a batch: −log p of present classes and background, −log(1 − p) of absent ones.

    p is the log-sum-exp pooling of a class's softmax probabilities: for present classes over the
    cells inside the mask, for the background over those outside, for absent classes over both. A
    cell belongs where the pixel that it is centred on does. Cells of 255 say nothing, nor do
    images without tags; a part of the loss that finds no cell in an image does not count it.

    Args:
        score_BKhw: Logits, background first, float.
        tags_BC: 1 for present classes, else 0, float.
        mask_BHW: uint8: 1 foreground, 0 background, 255 unknown or outside of the image.
        sharpness: r of the pooling, above 0: near 0 all cells are pushed alike, from 20 on the
            most probable one alone.

    Returns:
        Three terms, finite with finite gradients whatever the scores.

    Raises:
        ValueError: The mask is not of the score map's crop, or the sharpness is not above 0.
    """
    height, width = score_BKhw.shape[-2:]
    mask_Bhw = at_cells(mask_BHW, height, width)
    tagged_B1 = (tags_BC > 0).any(dim=1, keepdim=True)
    # In double precision a class of probability 1 − 1e-12 is still pushed down.
    share_BKhw = score_BKhw.double().softmax(dim=1)

    inside_Bhw = mask_Bhw == 1
    present_BC = log_sum_exp_pool(share_BKhw[:, 1:], inside_Bhw, sharpness)
    present = _negative_log(present_BC, (tags_BC > 0) & _any(inside_Bhw))

    outside_Bhw = mask_Bhw == 0
    background_B1 = log_sum_exp_pool(share_BKhw[:, :1], outside_Bhw, sharpness)
    background = _negative_log(background_B1, tagged_B1 & _any(outside_Bhw))

    known_Bhw = mask_Bhw != IGNORE
    absent_BC = 1.0 - log_sum_exp_pool(share_BKhw[:, 1:], known_Bhw, sharpness)
    absent = _negative_log(absent_BC, (tags_BC <= 0) & tagged_B1 & _any(known_Bhw))
    return PriorTerms(present, background, absent)


def foreground_mask(saliency_BHW: Tensor, valid_B4: Tensor) -> Tensor:
    """The mask of :func:`prior_terms` from a map of how likely foreground is.

    Args:
        saliency_BHW: uint8, 255 = surely foreground.
        valid_B4: (top, left, bottom, right) of the box where it is known, in crop pixels.

    Returns:
        uint8: 1 from 128 on, 0 below, 255 outside the box.
    """
    inside_BHW = inside_boxes(valid_B4, saliency_BHW.shape[-2], saliency_BHW.shape[-1])
    return (saliency_BHW > 127).to(torch.uint8).masked_fill(~inside_BHW, IGNORE)


@dataclass(frozen=True)
class PriorLoss:
    """The loss as one that is added to others (:class:`dcsp.training.objective.ExtraLoss`).

    Attributes:
        weight: Of each of its three terms.
        sharpness: r of the pooling.
    """

    weight: float
    sharpness: float

    @property
    def weights(self) -> dict[str, float]:
        """The three terms, by name."""
        return {f"prior_{part}": self.weight for part in PriorTerms._fields}

    def __call__(self, output: ScoreMaps, batch: Mapping[str, Tensor]) -> dict[str, Term]:
        """The terms of a batch, its saliency taken as the foreground."""
        mask_BHW = foreground_mask(batch["saliency"], batch["valid"])
        terms = prior_terms(output.score_map, batch["tags"], mask_BHW, self.sharpness)
        return {f"prior_{part}": term for part, term in terms._asdict().items()}


def _any(cells_Bhw: Tensor) -> Tensor:
    return cells_Bhw.flatten(1).any(dim=1, keepdim=True)


def _negative_log(pooled_BN: Tensor, counts_BN: Tensor) -> Term:
    """Sum of −log of the pooled probabilities that count, which are bool."""
    # What does not count becomes 1 before the logarithm: its gradient is then 0, and never nan.
    losses_BN = -pooled_BN.masked_fill(~counts_BN, 1.0).clamp(min=_LEAST).log()
    return Term(losses_BN.sum().float(), counts_BN.sum().float())
