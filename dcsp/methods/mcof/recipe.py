"""The training of RegionNet (method 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsp.config import NetworkSettings
from dcsp.methods.mcof.loss import RegionObjective
from dcsp.methods.mcof.network import RegionNetwork
from dcsp.networks.model import start_backbone
from dcsp.training.recipe import Recipe


@dataclass(frozen=True)
class RegionRecipe(Recipe):
    """Classes of superpixels, from the seeds on them.

    Attributes:
        min_share: Share of a superpixel that its label must cover.
    """

    min_share: float

    model = RegionNetwork

    @property
    def decides(self) -> Mapping[str, Any]:
        """The share."""
        return {"min_share": self.min_share}

    def build(
        self, network: NetworkSettings, classes: Sequence[str], weights: Path | None
    ) -> RegionNetwork:
        """See :class:`Recipe`."""
        return RegionNetwork(start_backbone(network, weights), network.backbone, classes)

    def objective(self, world: int) -> RegionObjective:
        """See :class:`Recipe`."""
        return RegionObjective(self.min_share, world)
