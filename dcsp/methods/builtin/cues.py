"""Cues of the built-in priors: localisation maps share a foreground mask (Saleh et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.cues.dcsp import DCSPStage
from dcsp.cues.stage import Row
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND
from dcsp.methods.builtin.foreground import multi_class, multi_class_labels
from dcsp.tables.fingerprint import StageKey

VERSION = 1


@dataclass(frozen=True)
class BuiltinStage(DCSPStage):
    """As DCSP's cues, with another rule: the table of foreground stands in place of saliency.

    ``settings`` say which attention, which map of the foreground table, and whether there is a CRF;
    the two thresholds γ are not used.
    """

    @property
    def given_key(self) -> StageKey:
        """The rule and all that decides DCSP's cues, their version included, decide these."""
        known, own = super().given_key, self.config.cues.builtin
        rule = {"method": "builtin", "threshold": own.threshold, "exponent": own.exponent}
        settings = {**known.settings, **rule, "dcsp_version": known.version}
        return StageKey("cues", VERSION, settings, known.inputs)

    @property
    def method(self) -> str:
        """Name in the table."""
        return "builtin"

    def first_pass(self) -> None:
        """There is no hierarchy of passes."""
        return None

    def evidence(self, row: Row) -> NDArray[np.float32]:
        """Probabilities of the tags, nHW, before the CRF."""
        attention, foreground = self._at_image(
            row, row["start.attention"], row["start.attention_shape"]
        )
        return self._probabilities(attention, foreground, row["tags"])[1:]

    def discovered(
        self, row: Row, attention: NDArray[np.float32], saliency: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """The multi-class mask, after the dense CRF where the settings ask for it."""
        tags = row["tags"]
        probabilities = self._probabilities(attention, saliency, tags)
        if not self.settings.crf:
            return winning_label(probabilities, (BACKGROUND, *tags))[0]
        image = self.images.decode(row["bytes"])
        return multi_class_labels(image, probabilities, tags, self.images.crf)

    def _probabilities(
        self, attention: NDArray[np.float32], foreground: NDArray[np.float32], tags: Sequence[int]
    ) -> NDArray[np.float32]:
        own = self.config.cues.builtin
        return multi_class(attention, foreground, tags, own.threshold, own.exponent)
