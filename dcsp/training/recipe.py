"""Recipes: what a training builds and minimises, named by the method that needs the network.

A cue method with a network of its own writes a recipe of its own; :class:`ScoreRecipe` is that of
the FCAN and of joint training. A recipe travels to training workers: it is picklable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dcsp.config import NetworkSettings, TrainSettings
from dcsp.networks.deeplab import SegmentationNetwork, build_network
from dcsp.networks.model import Model
from dcsp.tables.fingerprint import StageKey
from dcsp.training.objective import ExtraLoss, Objective, ScoreObjective


@dataclass(frozen=True)
class TrainingInput:
    """A column of a table that a training learns from.

    Attributes:
        name: What the table is to the training, in its fingerprint: ``cues``, ``saliency`` …
        key: Of the stage that makes the table.
        column: The column.
        sample: What a sample calls it (:func:`dcsp.training.augment.make_samples`). Of two inputs
            of one name, the first that an image has counts.
        number: Which map of a list of maps, from 1; None for a column without lists.
    """

    name: str
    key: StageKey
    column: str
    sample: Literal["cue", "saliency", "regions"]
    number: int | None = None


@dataclass(frozen=True)
class Recipe(ABC):
    """What a training is, apart from the tables it reads.

    Attributes:
        title: Name of the training, such as ``"fcan"``: it decides the fingerprint and the random
            numbers.
        block: Name of its block of settings, such as ``"joint"``, for messages.
        settings: Steps, batch, crop, learning rates.
    """

    title: str
    block: str
    settings: TrainSettings

    model: ClassVar[type[Model]]
    """Class of the network."""

    @property
    def decides(self) -> Mapping[str, Any]:
        """What else of the recipe decides the network, as JSON values."""
        return {}

    @abstractmethod
    def build(
        self, network: NetworkSettings, classes: Sequence[str], weights: Path | None
    ) -> Model:
        """The network that the training starts from.

        Args:
            network: Backbone and output stride.
            classes: Names of classes 1…C.
            weights: Of the backbone, as in :func:`dcsp.networks.model.start_backbone`.
        """

    @abstractmethod
    def objective(self, world: int) -> Objective:
        """What is minimised, on so many ranks."""


@dataclass(frozen=True)
class ScoreRecipe(Recipe):
    """The segmentation network: FCAN on ℓ_c, or joint training on ℓ_c + ℓ_s (paper 4.1, 4.3).

    Attributes:
        learns_cues: Whether there are cues to learn from.
        extra: Losses of methods' own, added to these.
    """

    learns_cues: bool = False
    extra: tuple[ExtraLoss, ...] = ()

    model = SegmentationNetwork

    def build(
        self, network: NetworkSettings, classes: Sequence[str], weights: Path | None
    ) -> SegmentationNetwork:
        """See :class:`Recipe`."""
        return build_network(network, classes, weights)

    def objective(self, world: int) -> ScoreObjective:
        """See :class:`Recipe`."""
        return ScoreObjective(self.settings, self.learns_cues, world, self.extra)
