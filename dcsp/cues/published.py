"""How images whose tags are known are labelled at the end: by all that the run knows of them.

The network alone names classes that nobody tagged, and leaves out things that it hardly sees. With
the tags only their classes can win, and with saliency its probabilities are judged as attention is:
what is published of a tagged image is what cues of one more phase would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.config import CRFSettings, DCSPSettings, RunConfig
from dcsp.config.base import Fuse
from dcsp.cues.attention import tag_shares
from dcsp.cues.fusion import algorithm_1
from dcsp.images.resize import resize_map
from dcsp.inference.crf import dense_crf
from dcsp.inference.scores import softmax, winning_label
from dcsp.inference.table import Labelled
from dcsp.labels import BACKGROUND
from dcsp.stages.parts import TableInput
from dcsp.tables.codecs import decode_map
from dcsp.tables.fingerprint import StageKey

TAGS = "tags"
"""The network among background and tags."""
CUES = "cues"
"""Algorithm 1 with the network in the FCAN's place."""


@dataclass(frozen=True)
class PublishedRule:
    """Labels an image among background and its tags.

    Attributes:
        fuse: How views of the image were fused.
        settings: Of Algorithm 1; None: the network's probabilities decide alone.
        saliency: Key of the saliency table; None where there is no Algorithm 1, or none in it.
        crf: The dense CRF; None: without it.
    """

    fuse: Fuse
    settings: DCSPSettings | None
    saliency: StageKey | None
    crf: CRFSettings | None

    @classmethod
    def of(
        cls, config: RunConfig, settings: DCSPSettings | None, saliency: StageKey | None
    ) -> PublishedRule:
        """By the settings of a run: the CRF is on where predictions have it.

        Args:
            config: Of the run.
            settings: Of Algorithm 1.
            saliency: Key of its saliency.
        """
        kernels = config.cues.crf if settings else config.predict.crf_settings
        return cls(config.predict.fuse, settings, saliency, kernels if config.predict.crf else None)

    @property
    def decides(self) -> Mapping[str, Any]:
        """What of it decides a label, as JSON values."""
        own, idle = self.settings, {"attention", "crf"}
        return {
            "rule": own.model_dump(mode="json", exclude=idle) if own else None,
            "rule_crf": self.crf.model_dump(mode="json") if self.crf else None,
        }

    @property
    def reads(self) -> Mapping[str, str]:
        """Name of a table that it reads → fingerprint."""
        return {"saliency": self.saliency.fingerprint} if self.saliency else {}

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What it reads beside the corpus."""
        if self.saliency is None:
            return ()
        return (TableInput("saliency", self.saliency.directory, ("maps",)),)

    def label(
        self,
        row: Mapping[str, Any],
        scores: NDArray[np.float32],
        size: tuple[int, int],
        image: Callable[[], NDArray[np.uint8]],
    ) -> Labelled:
        """Label one image; where its saliency is missing, as if there were no Algorithm 1.

        Args:
            row: ``tags``, at least one, and what :attr:`inputs` give.
            scores: (C+1)hw float32, fused over views; channel 0 the background.
            size: Height and width that the network saw the image at.
            image: Gives the image at that size; asked by the CRF alone.

        Raises:
            ValueError: A tag has no score.
        """
        ids = (BACKGROUND, *row["tags"])
        shares = tag_shares(softmax(scores) if self.fuse == "max" else scores, row["tags"])
        full = resize_map(shares, *size, corners=True)
        maps = row.get("saliency.maps") if self.saliency else None
        if self.settings is None or (self.saliency and not maps):
            refined = dense_crf(image(), full, self.crf) if self.crf else full
            return Labelled(TAGS, winning_label(refined, ids)[0], ids, full)
        saliency = np.ones(size, np.float32)
        if maps:
            saliency = resize_map(decode_map(maps[self.settings.saliency_pass - 1]), *size)
        label = algorithm_1(full[1:], saliency, row["tags"], self.settings, image, self.crf)
        return Labelled(CUES, label, ids, full)
