"""The training of the affinity network (method 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsp.config import NetworkSettings
from dcsp.methods.affinity.loss import AffinityObjective
from dcsp.methods.affinity.network import AffinityNetwork
from dcsp.networks.model import start_backbone
from dcsp.training.recipe import Recipe


@dataclass(frozen=True)
class AffinityRecipe(Recipe):
    """Affinities of pairs of cells, from confident areas.

    Attributes:
        radius: Pairs of cells are nearer than this.
    """

    radius: int

    model = AffinityNetwork

    @property
    def decides(self) -> Mapping[str, Any]:
        """The radius."""
        return {"radius": self.radius}

    def build(
        self, network: NetworkSettings, classes: Sequence[str], weights: Path | None
    ) -> AffinityNetwork:
        """See :class:`Recipe`; classes do not matter."""
        return AffinityNetwork(start_backbone(network, weights), network.backbone)

    def objective(self, world: int) -> AffinityObjective:
        """See :class:`Recipe`."""
        return AffinityObjective(self.radius, world)
