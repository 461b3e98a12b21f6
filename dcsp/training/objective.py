"""The losses: ℓ_c (eq. 1), ℓ_s, their sum (eq. 2) and the joint saliency loss (method 1.2, 4, 5).

Every loss is a sum over a rank's share of the global batch and a count. Counts are added up over
all ranks before dividing, so that any number of ranks gives the loss and gradients of one.

Dimensions: B images of a rank, C classes, K = C + 1 with background, h, w score map, H, W crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from dcsp.config import TrainSettings
from dcsp.labels import IGNORE
from dcsp.training.terms import Term, around_cells, at_cells, inside_boxes


class ScoreMaps(Protocol):
    """What the network gives for a batch."""

    @property
    def score_map(self) -> Tensor:
        """Logits (B, K, h, w), background first."""

    @property
    def attention(self) -> Tensor:
        """Attention volume V (B, C, h, w)."""


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
    cue_Bhw = at_cells(cue_BHW, height, width).long()
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
    inside_BHW = inside_boxes(valid_B4, saliency_BHW.shape[-2], saliency_BHW.shape[-1]).float()
    known_Bhw = around_cells(inside_BHW, height, width)
    salient_Bhw = around_cells(saliency_BHW * inside_BHW / 255.0, height, width)
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


class Objective(Protocol):
    """What a training stage minimises."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of :attr:`Losses.values`: the whole loss, then each term before its weight."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What a batch must hold beside ``image``."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Which of the columns the model is given after the images."""

    def __call__(self, output: Any, batch: Mapping[str, Tensor]) -> Losses:
        """The losses of one batch.

        Every rank must call this once a step, even with nothing to count.

        Args:
            output: Of the model, for the images of the batch.
            batch: As :func:`dcsp.training.augment.make_samples` makes.
        """


class ExtraLoss(Protocol):
    """A loss on score maps that a method adds to those here; picklable."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of each of its terms → weight."""

    def __call__(self, output: ScoreMaps, batch: Mapping[str, Tensor]) -> Mapping[str, Term]:
        """Its terms; ``tags``, ``saliency`` and ``valid`` are in the batch."""


class ScoreObjective:
    """The weighted sum of the losses on score maps and attention.

    ℓ_c, and the joint saliency loss where ``saliency_weight`` is above 0; with cues ℓ_s as well
    (eq. 2).

    Args:
        settings: ``classification_weight`` and ``saliency_weight`` are used.
        cues: Whether there are cues to learn from.
        world: Number of ranks; above 1, ``torch.distributed`` must be initialised.
        extra: Losses of methods' own.
    """

    inputs = ()

    def __init__(
        self,
        settings: TrainSettings,
        cues: bool,
        world: int = 1,
        extra: Sequence[ExtraLoss] = (),
    ) -> None:
        self.weights = {"classification": settings.classification_weight}
        if cues:
            self.weights["segmentation"] = 1.0
        if settings.saliency_weight > 0:
            self.weights["saliency"] = settings.saliency_weight
        for loss in extra:
            self.weights |= loss.weights
        self._extra = tuple(extra)
        self._settings = settings
        self._world = world

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`Objective`."""
        return ("loss", *self.weights)

    @property
    def columns(self) -> tuple[str, ...]:
        """See :class:`Objective`."""
        cue = ("cue",) if "segmentation" in self.weights else ()
        return ("tags", *cue, *(("saliency", "valid") if self._settings.needs_saliency else ()))

    def __call__(self, output: ScoreMaps, batch: Mapping[str, Tensor]) -> Losses:
        """See :class:`Objective`; ẑ is the global average of the attention volume."""
        extra: dict[str, Term] = {}
        for loss in self._extra:
            extra |= loss(output, batch)
        terms = {n: extra.get(n) or self._term(n, output, batch) for n in self.weights}
        return combine(terms, self.weights, self._world)

    def _term(self, name: str, output: ScoreMaps, batch: Mapping[str, Tensor]) -> Term:
        if name == "classification":
            return classification_term(output.attention.mean(dim=(-2, -1)), batch["tags"])
        if name == "segmentation":
            return segmentation_term(output.score_map, batch["cue"])
        return saliency_term(
            output.score_map,
            batch["tags"],
            batch["saliency"],
            batch["valid"],
            self._settings.saliency_loss,
        )


def combine(terms: Mapping[str, Term], weights: Mapping[str, float], world: int) -> Losses:
    """The weighted sum of terms, each divided by its count over all ranks.

    Args:
        terms: Name → term of this rank.
        weights: Name → weight, of the same names in the same order.
        world: Number of ranks.
    """
    totals = torch.stack([term.total for term in terms.values()])
    counts = torch.stack([term.number for term in terms.values()])
    shares = totals.new_tensor([weights[name] for name in terms])
    pooled = torch.stack([totals.detach(), counts]).double()
    if world > 1:
        dist.all_reduce(pooled)
    global_counts = pooled[1].clamp(min=1.0)
    means = pooled[0] / global_counts
    loss = (shares.double() * means).sum(dim=0, keepdim=True)
    scaled = totals * (shares * world / global_counts.float())
    return Losses(scaled.sum(), torch.cat([loss, means]).float())
