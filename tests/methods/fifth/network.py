"""The helper network: one linear layer on the deepest stage of the backbone, and its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from dcsp.config import NetworkSettings
from dcsp.networks.base import Backbone
from dcsp.networks.model import Model, backbone_of, draw_new_weights, start_backbone
from dcsp.training.objective import Losses, combine, segmentation_term
from dcsp.training.recipe import Recipe


class PixelNetwork(Model):
    """Scores of background and classes at every cell."""

    kind: ClassVar[str] = "pixel"

    def __init__(self, backbone: Backbone, backbone_name: str, classes: Sequence[str]) -> None:
        super().__init__(backbone, backbone_name)
        self.classes = tuple(classes)
        self.score = nn.Conv2d(backbone.stage_channels[-1], len(self.classes) + 1, 1)
        draw_new_weights(self.new_modules())

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, C+1, h, w)."""
        scores: Tensor = self.score(self.stages(image_BCHW)[-1])
        return scores

    def own_modules(self) -> Sequence[nn.Module]:
        """The layer."""
        return [self.score]

    def card(self) -> dict[str, Any]:
        """What it is built from again."""
        return super().card() | {"classes": list(self.classes)}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Self:
        """See :class:`Model`."""
        return cls(backbone_of(card), card["backbone"], card["classes"])


class PixelObjective:
    """Cross-entropy of the cells that have a seed."""

    inputs = ()
    columns = ("cue",)
    names = ("loss", "seeds")

    def __init__(self, world: int) -> None:
        self._world = world

    def __call__(self, output: Tensor, batch: Mapping[str, Tensor]) -> Losses:
        """See :class:`dcsp.training.objective.Objective`."""
        term = segmentation_term(output, batch["cue"])
        return combine({"seeds": term}, {"seeds": 1.0}, self._world)


@dataclass(frozen=True)
class PixelRecipe(Recipe):
    """The helper network, learned from seeds."""

    model = PixelNetwork

    def build(
        self, network: NetworkSettings, classes: Sequence[str], weights: Path | None
    ) -> PixelNetwork:
        """See :class:`Recipe`."""
        return PixelNetwork(start_backbone(network, weights), network.backbone, classes)

    def objective(self, world: int) -> PixelObjective:
        """See :class:`Recipe`."""
        return PixelObjective(world)
