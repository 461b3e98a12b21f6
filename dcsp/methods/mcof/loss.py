"""The loss of RegionNet: softmax cross-entropy of superpixels against the seeds on them (method 3).

Dimensions: B images of a rank, R superpixels of all of them, K = C + 1 labels, H, W crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dcsp.labels import IGNORE
from dcsp.methods.mcof.network import RegionScores
from dcsp.training.objective import Losses, combine
from dcsp.training.terms import Term


def region_labels(
    regions_BHW: Tensor, cue_BHW: Tensor, counts: Sequence[int], labels: int, min_share: float
) -> Tensor:
    """The label that covers the largest share of each superpixel's pixels in the crop.

    Args:
        regions_BHW: Ids 0..R_b − 1 of each image.
        cue_BHW: 0..K − 1, 255 where there is no seed.
        counts: R_b of each image.
        labels: K.
        min_share: Share of the pixels, unseeded ones counted, that the label must cover.

    Returns:
        (R,) int64: a label, of equal ones the lower, or 255 where none covers enough or the crop
        shows no pixel.
    """
    sizes = torch.tensor(counts, device=regions_BHW.device)
    first = (sizes.cumsum(0) - sizes)[:, None, None]
    column = torch.where(cue_BHW == IGNORE, labels, cue_BHW.long())
    pairs = (regions_BHW.long() + first) * (labels + 1) + column
    found = torch.bincount(pairs.flatten(), minlength=int(sizes.sum()) * (labels + 1))
    shares = found.view(-1, labels + 1).double()
    shares /= shares.sum(dim=1, keepdim=True).clamp(min=1.0)
    most, winner = shares[:, :labels].max(dim=1)
    return torch.where((most >= min_share) & (most > 0), winner, IGNORE)


class RegionObjective:
    """Mean over all superpixels that have a label.

    Args:
        min_share: As in :func:`region_labels`.
        world: Number of ranks; above 1, ``torch.distributed`` must be initialised.
    """

    inputs = ("regions",)
    columns = ("regions", "cue")
    names = ("loss", "regions")

    def __init__(self, min_share: float, world: int = 1) -> None:
        self._min_share = min_share
        self._world = world

    def __call__(self, output: RegionScores, batch: Mapping[str, Tensor]) -> Losses:
        """See :class:`dcsp.training.objective.Objective`."""
        logits_RK = output.logits.float()
        labels_R = region_labels(
            batch["regions"], batch["cue"], output.counts, logits_RK.shape[1], self._min_share
        )
        total = F.cross_entropy(logits_RK, labels_R, ignore_index=IGNORE, reduction="sum")
        term = Term(total, (labels_R != IGNORE).sum().float())
        return combine({"regions": term}, {"regions": 1.0}, self._world)
