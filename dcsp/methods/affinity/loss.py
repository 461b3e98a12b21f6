"""The loss of the affinity network: cells of one label alike, of two labels unlike (method 2.3).

The whole loss is L_bg⁺/4 + L_fg⁺/4 + L⁻/2, each the mean over its own pairs of the global batch.

Dimensions: B images of a rank, K feature channels, P offsets of pairs, h, w cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dcsp.labels import BACKGROUND, IGNORE
from dcsp.methods.affinity.walk import Offset, pair_distances, pair_offsets, second_ends
from dcsp.training.objective import Losses, combine
from dcsp.training.terms import Term, at_cells

_LEAST = 1e-5  # added to 1 − a: −log stays below 11.6 and its gradient finite where features agree


class AffinityTerms(NamedTuple):
    """The three losses of one rank; :data:`WEIGHTS` has the same names.

    Attributes:
        background: L_bg⁺: both ends background.
        foreground: L_fg⁺: both ends the same class.
        negative: L⁻: two different labels.
    """

    background: Term
    foreground: Term
    negative: Term


WEIGHTS = {"background": 0.25, "foreground": 0.25, "negative": 0.5}
"""What each mean counts for in the whole loss."""


def affinity_terms(
    features_BKhw: Tensor, labels_Bhw: Tensor, offsets: Sequence[Offset]
) -> AffinityTerms:
    """Sums and counts of the three losses over all pairs with both ends labelled.

    Positive pairs lose −log a, which is the distance of their features itself, negative pairs
    −log(1 − a).

    Args:
        features_BKhw: What the affinity network gives, float.
        labels_Bhw: Class ids 0..C at cells, 255 ignored, integer.
        offsets: From :func:`dcsp.methods.affinity.walk.pair_offsets`.

    Returns:
        Totals that are 0, with gradients 0, where there is no such pair.

    Raises:
        ValueError: Features and labels are not of the same images and cells.
    """
    sizes = (features_BKhw.shape[0], *features_BKhw.shape[2:])
    if tuple(labels_Bhw.shape) != sizes:
        raise ValueError(
            f"Labels of {tuple(labels_Bhw.shape)} do not belong to features of "
            f"{tuple(features_BKhw.shape)}."
        )
    distance_BPhw = pair_distances(features_BKhw, offsets)
    first_B1hw = labels_Bhw[:, None]
    second_BPhw = second_ends(labels_Bhw, offsets, outside=IGNORE)
    known_BPhw = (first_B1hw != IGNORE) & (second_BPhw != IGNORE)
    same_BPhw = known_BPhw & (first_B1hw == second_BPhw)
    background_BPhw = same_BPhw & (first_B1hw == BACKGROUND)
    negative_BPhw = known_BPhw & ~same_BPhw
    return AffinityTerms(
        _term(distance_BPhw, background_BPhw),
        _term(distance_BPhw, same_BPhw & ~background_BPhw),
        _term(_apart(distance_BPhw), negative_BPhw),
    )


class AffinityObjective:
    """L_bg⁺/4 + L_fg⁺/4 + L⁻/2 of the features of the affinity network.

    Args:
        radius: Pairs are nearer than this, in cells.
        world: Number of ranks; above 1, ``torch.distributed`` must be initialised.
    """

    inputs = ()
    columns = ("cue",)
    names = ("loss", *WEIGHTS)

    def __init__(self, radius: int, world: int = 1) -> None:
        self._offsets = pair_offsets(radius)
        self._world = world

    def __call__(self, output: Tensor, batch: Mapping[str, Tensor]) -> Losses:
        """See :class:`dcsp.training.objective.Objective`; labels are those of cells' centres."""
        labels_Bhw = at_cells(batch["cue"], *output.shape[-2:])
        terms = affinity_terms(output, labels_Bhw, self._offsets)
        return combine(terms._asdict(), WEIGHTS, self._world)


def _term(loss_BPhw: Tensor, counts_BPhw: Tensor) -> Term:
    """The sum and number of what counts; what does not may be infinite."""
    return Term(loss_BPhw.masked_fill(~counts_BPhw, 0.0).sum(), counts_BPhw.sum().float())


def _apart(distance_BPhw: Tensor) -> Tensor:
    """−log(1 − a) of a = exp(−distance); expm1 keeps the digits of small distances."""
    return -torch.log(_LEAST - torch.expm1(-distance_BPhw))
