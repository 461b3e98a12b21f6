"""The losses: ℓ_c (eq. 1), ℓ_s, their sum (eq. 2) and the joint saliency loss (method 1.2, 5, 6).

Every loss is a sum over a rank's share of the global batch and a count. Counts are added up over
all ranks before dividing, so that any number of ranks gives the loss and gradients of one.

Dimensions: B images of a rank, C classes, K = C + 1 with background, h, w score map, H, W crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from dcsp.config import TrainSettings
from dcsp.labels import IGNORE

ObjectiveKind = Literal["fcan", "joint"]


class ScoreMaps(Protocol):
    """What the network gives for a batch."""

    @property
    def score_map(self) -> Tensor:
        """Logits (B, K, h, w), background first."""

    @property
    def attention(self) -> Tensor:
        """Attention volume V (B, C, h, w)."""


class Term(NamedTuple):
    """One loss on one rank: the mean over all ranks is sum of ``total`` over sum of ``number``.

    Attributes:
        total: Scalar float32 with gradient.
        number: Scalar float32 without gradient: how many values ``total`` adds up.
    """

    total: Tensor
    number: Tensor

    def mean(self) -> Tensor:
        """The mean on this rank alone; 0 where nothing counts."""
        return self.total / self.number.clamp(min=1.0)


class Losses(NamedTuple):
    """The objective of one step.

    Attributes:
        total: Scalar to call ``backward`` on: averaged over ranks, its gradients are those of
            the global batch.
        values: Vector of the global means without gradient, named by :attr:`Objective.names`.
    """

    total: Tensor
    values: Tensor


def classification_term(logits_BC: Tensor, tags_BC: Tensor) -> Term:
    """ℓ_c, eq. 1: binary cross-entropy with logits, mean over images and classes.

    An image without tags says nothing about its classes and does not count.

    Args:
        logits_BC: Image logits ẑ, float.
        tags_BC: 1 for present classes, else 0, float.
    """
    tagged_B1 = (tags_BC > 0).any(dim=1, keepdim=True).float()
    loss_BC = F.binary_cross_entropy_with_logits(
        logits_BC.float(), tags_BC.float(), reduction="none"
    )
    return Term((loss_BC * tagged_B1).sum(), tagged_B1.sum() * tags_BC.shape[1])


def segmentation_term(score_BKhw: Tensor, cue_BHW: Tensor) -> Term:
    """ℓ_s: softmax cross-entropy against the cue, mean over the pixels of score maps with a label.

    The cue is brought to the score map's size by taking the pixel that each cell is centred on,
    i × output stride for cell i: the grid on which score maps are upsampled again at inference.

    Args:
        score_BKhw: Logits, background first, float.
        cue_BHW: Class ids 0..C, 255 ignored, integer.

    Returns:
        A total that is 0, with gradients 0, where no pixel has a label.
    """
    height, width = score_BKhw.shape[-2:]
    cue_Bhw = _at_cells(cue_BHW, height, width).long()
    total = F.cross_entropy(score_BKhw.float(), cue_Bhw, ignore_index=IGNORE, reduction="sum")
    return Term(total, (cue_Bhw != IGNORE).sum().float())


def saliency_term(
    score_BKhw: Tensor,
    tags_BC: Tensor,
    saliency_BHW: Tensor,
    valid_B4: Tensor,
    form: Literal["squared", "cross_entropy"] = "squared",
) -> Term:
    """Joint saliency loss: the tagged classes' summed probability should be S.

    Squared error, or cross-entropy −S log p(tagged) − (1 − S) log p(background), which also says
    that what is not salient is background and no absent class.

    The saliency map is averaged around each cell of the score map; cells that lie mostly outside
    the valid box, and images without tags, do not count.

    Args:
        score_BKhw: Logits, background first, float.
        tags_BC: 1 for present classes, else 0, float.
        saliency_BHW: uint8, 255 = salient.
        valid_B4: (top, left, bottom, right) of the box where saliency is known, in crop pixels.
        form: Which of the two.
    """
    height, width = score_BKhw.shape[-2:]
    inside_BHW = _inside(valid_B4, saliency_BHW.shape[-2], saliency_BHW.shape[-1]).float()
    known_Bhw = _around_cells(inside_BHW, height, width)
    salient_Bhw = _around_cells(saliency_BHW * inside_BHW / 255.0, height, width)
    salient_Bhw = salient_Bhw / known_Bhw.clamp(min=1e-6)
    tagged_B11 = (tags_BC > 0).any(dim=1)[:, None, None]
    counts_Bhw = ((known_Bhw >= 0.5) & tagged_B11).float()
    log_BKhw = score_BKhw.float().log_softmax(dim=1)
    absent_BC11 = (tags_BC <= 0)[:, :, None, None] & tagged_B11[:, None]
    foreground_Bhw = log_BKhw[:, 1:].masked_fill(absent_BC11, -torch.inf).logsumexp(dim=1)
    if form == "squared":
        loss_Bhw = (foreground_Bhw.exp() - salient_Bhw).square()
    else:
        loss_Bhw = -(salient_Bhw * foreground_Bhw + (1.0 - salient_Bhw) * log_BKhw[:, 0])
    loss_Bhw = loss_Bhw * counts_Bhw
    return Term(loss_Bhw.sum(), counts_Bhw.sum())


class Objective:
    """The weighted sum of the losses of a training stage.

    ``fcan``: ℓ_c, and the joint saliency loss where ``saliency_weight`` is above 0.
    ``joint``: the same and ℓ_s (eq. 2).

    Args:
        kind: Which of the two.
        settings: ``classification_weight`` and ``saliency_weight`` are used.
        world: Number of ranks; above 1, ``torch.distributed`` must be initialised.
    """

    def __init__(self, kind: ObjectiveKind, settings: TrainSettings, world: int = 1) -> None:
        self.weights = {"classification": settings.classification_weight}
        if kind == "joint":
            self.weights["segmentation"] = 1.0
        if settings.saliency_weight > 0:
            self.weights["saliency"] = settings.saliency_weight
        self._saliency_form = settings.saliency_loss
        self._world = world

    @property
    def names(self) -> tuple[str, ...]:
        """Names of :attr:`Losses.values`: the whole loss, then each term before its weight."""
        return ("loss", *self.weights)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a batch must hold beside ``image``."""
        needed = {"segmentation": ("cue",), "saliency": ("saliency", "valid")}
        return ("tags", *(name for term in self.weights for name in needed.get(term, ())))

    def __call__(self, scores: ScoreMaps, logits_BC: Tensor, batch: Mapping[str, Tensor]) -> Losses:
        """The losses of one batch; ``batch`` as :func:`dcsp.training.augment.make_samples` makes.

        Every rank must call this once a step, even with nothing to count.
        """
        terms = [self._term(name, scores, logits_BC, batch) for name in self.weights]
        totals = torch.stack([term.total for term in terms])
        counts = torch.stack([term.number for term in terms])
        weights = totals.new_tensor(list(self.weights.values()))
        pooled = torch.stack([totals.detach(), counts]).double()
        if self._world > 1:
            dist.all_reduce(pooled)
        global_counts = pooled[1].clamp(min=1.0)
        means = pooled[0] / global_counts
        share = weights * self._world / global_counts.float()
        loss = (weights.double() * means).sum(dim=0, keepdim=True)
        return Losses((totals * share).sum(), torch.cat([loss, means]).float())

    def _term(
        self, name: str, scores: ScoreMaps, logits_BC: Tensor, batch: Mapping[str, Tensor]
    ) -> Term:
        if name == "classification":
            return classification_term(logits_BC, batch["tags"])
        if name == "segmentation":
            return segmentation_term(scores.score_map, batch["cue"])
        return saliency_term(
            scores.score_map,
            batch["tags"],
            batch["saliency"],
            batch["valid"],
            self._saliency_form,
        )


def _stride(pixels: int, cells: int) -> int:
    """Output stride: the one power of two of which ``pixels`` gives that many cells.

    Raises:
        ValueError: There is none.
    """
    stride = 1
    while -(-pixels // stride) > cells:
        stride *= 2
    if -(-pixels // stride) != cells:
        raise ValueError(f"A score map of {cells} cells does not belong to {pixels} pixels.")
    return stride


def _at_cells(labels_BHW: Tensor, height: int, width: int) -> Tensor:
    """Labels of the pixels that the cells of a score map are centred on."""
    down, across = _stride(labels_BHW.shape[-2], height), _stride(labels_BHW.shape[-1], width)
    return labels_BHW[:, ::down, ::across]


def _around_cells(maps_BHW: Tensor, height: int, width: int) -> Tensor:
    """Mean of float maps over the window half an output stride around the centre of each cell."""
    strides = (_stride(maps_BHW.shape[-2], height), _stride(maps_BHW.shape[-1], width))
    reach = (strides[0] // 2, strides[1] // 2)
    window = (2 * reach[0] + 1, 2 * reach[1] + 1)
    return F.avg_pool2d(maps_BHW[:, None], window, strides, reach, count_include_pad=False)[:, 0]


def _inside(valid_B4: Tensor, height: int, width: int) -> Tensor:
    """Bool (B, H, W): the pixels within each (top, left, bottom, right) box."""
    top, left, bottom, right = valid_B4.T[:, :, None]
    rows = torch.arange(height, device=valid_B4.device)
    columns = torch.arange(width, device=valid_B4.device)
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    inside_BHW: Tensor = down[:, :, None] & across[:, None, :]
    return inside_BHW
