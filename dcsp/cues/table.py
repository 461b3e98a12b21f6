"""What every cue stage shares: what it reads of the corpus and the rows it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import CRFSettings, PrecisionSettings, RunConfig
from dcsp.images.decode import decode_rgb, probe_size
from dcsp.images.resize import limit_side, resize_labels, resize_rgb
from dcsp.labels import IGNORE
from dcsp.stages.parts import CORPUS_INPUT, TableInput
from dcsp.tables.codecs import encode_labels
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES, ERROR, OK

SELFCUES = "selfcues"
"""Where cues by self-tags lie, apart from those by given tags."""


@dataclass(frozen=True)
class SelfTagInput(TableInput):
    """Self-tags, read in the place of given tags."""

    def column(self, column: str) -> str:
        """What a cue stage knows as the tags of a row."""
        return "tags"


def tagged_corpus(selftags: StageKey | None) -> tuple[TableInput, ...]:
    """The corpus as a cue stage reads it.

    Args:
        selftags: Key of the table of self-tags that take the place of given tags, so that images
            with given tags have none; None: given tags.
    """
    if selftags is None:
        return (CORPUS_INPUT,)
    return (CORPUS_INPUT.without("tags"), SelfTagInput("", selftags.directory, ("selftags",)))


def cue_key(key: StageKey, selftags: StageKey | None) -> StageKey:
    """The key of cues by given tags, or of the same cues by self-tags."""
    if selftags is None:
        return key
    inputs = {**key.inputs, "selftags": selftags.fingerprint}
    return replace(key, inputs=inputs, home=SELFCUES)


@dataclass(frozen=True)
class CueImages:
    """How a cue stage sees images.

    Attributes:
        max_pixels: Decoding limit.
        max_side: Longest side that attention, fusion and CRF work at; cues have the image's size.
        precision: Arithmetic of the network.
        crf: Kernels of the dense CRF.
    """

    max_pixels: int
    max_side: int | None
    precision: PrecisionSettings
    crf: CRFSettings

    @classmethod
    def of(cls, config: RunConfig) -> CueImages:
        """From the settings of a run."""
        return cls(
            config.corpus.max_pixels, config.network.max_side, config.precision, config.cues.crf
        )

    def key(self, uses_crf: bool) -> dict[str, Any]:
        """Those settings that decide a cue."""
        return {
            "precision": self.precision.model_dump(mode="json"),
            **({"crf": self.crf.model_dump(mode="json")} if uses_crf else {}),
        }

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The image, at most ``max_side`` long: what the network and the CRF see."""
        limit = self.max_side
        # Of the size in the header: a JPEG decoded at a half of its size rounds to another shape.
        inner = self.inner_size(*probe_size(data, self.max_pixels))
        image = decode_rgb(data, self.max_pixels, at_least=(limit, limit) if limit else None)
        return image if image.shape[:2] == inner else resize_rgb(image, *inner)

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """Size that :meth:`decode` gives an image of this size."""
        return limit_side(height, width, self.max_side)


@dataclass
class CueRow:
    """One row of a cue table before it is written: a label map, nothing, or an error.

    Attributes:
        label: HW uint8 at inner or image size.
        attention: Stacked PNG and its shape, where the method has attention.
        error: Why there is no label.
    """

    label: NDArray[np.uint8] | None = None
    attention: bytes | None = None
    attention_shape: Sequence[int] | None = None
    error: str | None = None


@dataclass
class CueWriter:
    """Collects the cue rows of one part in row order."""

    method: str
    phase: int
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any], status: str, cue: CueRow) -> None:
        """Add the cue of a corpus row; a cue with an error makes an error row."""
        entry: dict[str, Any] = {
            "image_id": row["image_id"],
            "height": row["height"],
            "width": row["width"],
            "tags": row["tags"],
            "method": self.method,
            "phase": self.phase,
            "status": ERROR if cue.error else status,
            "error": cue.error,
        }
        if cue.label is not None and status == OK and not cue.error:
            label = resize_labels(cue.label, row["height"], row["width"])
            inside = (label != 0) & (label != IGNORE)
            entry |= {
                "label": encode_labels(label),
                "attention": cue.attention,
                "attention_shape": cue.attention_shape,
                "foreground": float(inside.mean()),
            }
        self._rows.append(entry)

    def table(self) -> pa.Table:
        """The rows of the part."""
        return pa.Table.from_pylist(self._rows, schema=CUES)
