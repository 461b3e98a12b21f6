"""Arrow schemas of every table in a store.

All tables but ``rejected`` are aligned: the part ``P`` of a derived table has exactly the rows of
the part ``P`` of the corpus, in the same order, each with a status. Maps and labels are PNG bytes,
so that pandas, DuckDB and pyarrow read a table without this package.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

OK = "ok"
"""Status of a row that holds a result."""
SKIPPED = "skipped"
"""Status of a row that needs none, such as the cue of an image without tags."""
ERROR = "error"
"""Status of a row that failed; ``error`` says why."""
STATUSES = (OK, SKIPPED, ERROR)

HEAD: list[pa.Field[Any]] = [
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
]
HEAD_COLUMNS = tuple(field.name for field in HEAD)
_TAGS = pa.field("tags", pa.list_(pa.int16()))
STATUS: list[pa.Field[Any]] = [
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
]

CORPUS = pa.schema(
    [
        *HEAD,
        _TAGS,
        pa.field("split", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.large_binary()),
        *STATUS,
    ]
)
"""Ingested images: ``bytes`` are the source's own and ``sha256`` theirs; ``height`` and ``width``
those of the decoded RGB image after EXIF orientation; ``tags`` sorted unique class ids from 1."""

REJECTED = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("split", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)
"""What ingest could not use, one row each: images and, of images that it kept, tags and masks."""

TRUTH = pa.schema([*HEAD, pa.field("label", pa.binary()), *STATUS])
"""Ground-truth masks, read by evaluation and the report alone; ``skipped`` where there is none."""

SALIENCY = pa.schema([*HEAD, pa.field("maps", pa.list_(pa.binary())), *STATUS])
"""S_1 … S_K as 8-bit grey PNGs at the detector's size, to be resized to ``height``×``width``."""

CUES = pa.schema(
    [
        *HEAD,
        _TAGS,
        pa.field("method", pa.string()),
        pa.field("phase", pa.int16()),
        pa.field("label", pa.binary()),
        pa.field("attention", pa.binary()),
        pa.field("attention_shape", pa.list_(pa.int32())),
        pa.field("foreground", pa.float32()),
        *STATUS,
    ]
)
"""Cues: ``label`` a palette PNG of class ids (0 background, 255 ignore); ``attention`` an 8-bit
grey PNG of ``attention_shape`` = [n, h, w] maps stacked top to bottom, one a tag, at score-map
size; ``foreground`` the share of pixels with a class."""

TAG_SCORES = pa.schema([*HEAD, _TAGS, pa.field("scores", pa.list_(pa.float32())), *STATUS])
"""How strongly the FCAN believes in each class, in id order, in [0, 1]; images without tags are
``skipped``."""

SELFTAGS = pa.schema(
    [
        *HEAD,
        _TAGS,
        pa.field("selftags", pa.list_(pa.int16())),
        pa.field("scores", pa.list_(pa.float32())),
        *STATUS,
    ]
)
"""Self-tags, apart from the given ``tags``: ``selftags`` sorted unique class ids of an image
without tags, possibly none, by its ``scores`` (in id order, in [0, 1]); null for images with tags,
which are ``skipped``."""

PREDICTIONS = pa.schema(
    [
        *HEAD,
        _TAGS,
        pa.field("label", pa.binary()),
        pa.field("rule", pa.string()),
        pa.field("label_network", pa.binary()),
        pa.field("label_without_crf", pa.binary()),
        pa.field(
            "areas",
            pa.list_(
                pa.struct(
                    [
                        pa.field("class", pa.int16()),
                        pa.field("pixels", pa.int64()),
                        pa.field("confidence", pa.float32()),
                    ]
                )
            ),
        ),
        *STATUS,
    ]
)
"""Predictions: ``label`` a palette PNG, what is published; ``rule`` says how it was made:
``network``, ``tags`` (the network among background and tags) or ``cues`` (that with saliency, by
Algorithm 1), each with the CRF where it is on, or ``corrected``: a person's. ``label_network`` is
the network's own with the CRF; null where nobody asks for it: at a training image whose label its
tags decide, and where the CRF is off. ``label_without_crf`` is the network's own before it.
``areas`` has one entry for each class in ``label``, background included, with its mean probability
before saliency and CRF; 1 of a corrected label."""

TRUST = pa.schema(
    [
        *HEAD,
        _TAGS,
        pa.field("score", pa.float32()),
        pa.field(
            "classes",
            pa.list_(
                pa.struct(
                    [
                        pa.field("class", pa.int16()),
                        pa.field("pixels", pa.int64()),
                        pa.field("score", pa.float32()),
                        pa.field("reasons", pa.list_(pa.string())),
                    ]
                )
            ),
        ),
        *STATUS,
    ]
)
"""How far to trust published labels: ``score`` is the IoU with the truth that is expected of the
image, in [0, 1], the mean over ``classes``: those that its label shows or its tags name, background
left out, each with what lowers its own (:data:`dcsp.trust.score.REASONS`)."""

CORRECTIONS = pa.schema(
    [*HEAD, pa.field("train", pa.binary()), pa.field("measure", pa.binary()), *STATUS]
)
"""Corrected labels, palette PNGs: ``train`` of images that networks learn it from, ``measure`` of
those that labels are measured by it; images without one are ``skipped``."""


def corrected(schema: pa.Schema) -> pa.Schema:
    """The schema of predictions or trust of a run with corrections.

    ``uncorrected`` holds what the row of a corrected image would say without its correction.
    """
    names = [
        name for name in ("label", "rule", "areas", "score", "classes") if name in schema.names
    ]
    own = pa.struct([schema.field(name) for name in names])
    places = schema.get_field_index("status")
    return schema.insert(places, pa.field("uncorrected", own))


RULES_SINCE = 3
"""Version of predictions whose tables say by which rule a label was made. Before that ``label`` is
the network's own, and there is neither ``rule`` nor ``label_network``."""

SCHEMAS = {
    "corpus": CORPUS,
    "rejected": REJECTED,
    "truth": TRUTH,
    "corrections": CORRECTIONS,
    "saliency": SALIENCY,
    "tag_scores": TAG_SCORES,
    "selftags": SELFTAGS,
    "cues": CUES,
    "selfcues": CUES,
    "predictions": PREDICTIONS,
    "trust": TRUST,
}
"""Table name → schema; tables of a single cue method are with the method."""
