"""What a refinement needs of the cues it starts from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcsp.stages.stage import PartMap, TableInput


class EvidenceStage(PartMap, Protocol):
    """A cue stage that also tells how strongly each pixel belongs to each tag."""

    @property
    def evidence_inputs(self) -> tuple[TableInput, ...]:
        """What :meth:`evidence` reads beside the corpus; ``start`` is the stage's own table."""
        ...

    def evidence(self, row: dict[str, Any]) -> NDArray[np.float32]:
        """Evidence of the tags of one row, whose cue must be there.

        Args:
            row: Corpus columns, and those of :attr:`evidence_inputs`.

        Returns:
            nHW in [0, 1], one map a tag, at the size the network saw the image at.
        """
        ...
