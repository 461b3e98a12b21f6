"""Quality of cue and prediction tables against the ground truth, part by part (paper 5.2, 5.3).

Parts are aligned, so a row is compared with the truth row in the same place; results are summable,
so that a set of any size is evaluated by adding up its parts. This is the only reader of ground
truth beside the report: nothing here may be used for training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.evaluation.bootstrap import Samples
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.labels import BACKGROUND, IGNORE, hide_labels
from dcsp.tables.codecs import decode_labels
from dcsp.tables.schemas import ERROR, OK

LabelColumn = Literal["label", "label_network", "label_without_crf"]
Labeller = Callable[[int], NDArray[np.uint8]]
EachImage = Callable[[int, ConfusionMatrix], None]


class ClassFigures(TypedDict):
    """Figures of one class in percent, 0-100; None where undefined."""

    iou: float | None
    precision: float | None
    recall: float | None
    share: float | None
    """Share of the pixels with a ground truth that are of this class."""
    images: int
    """Images whose ground truth shows it."""


class Figures(TypedDict):
    """Figures of a table as plain JSON values; percent is 0-100, None where undefined."""

    miou: float | None
    interval: tuple[float, float] | None
    """Low and high end of where ``miou`` is for most samples of such images."""
    miou_labelled: float | None
    """As ``miou``, with the pixels left out that the table labels 255."""
    accuracy: float | None
    coverage: float | None
    """Share of the pixels with a ground truth that are labelled at all."""
    images: int
    failed: int
    without_label: int
    without_truth: int
    mismatched: int
    per_class: dict[str, ClassFigures]
    """Name → figures, ``background`` first, then in id order."""


@dataclass(frozen=True)
class Quality:
    """How one table compares with the ground truth.

    Attributes:
        matrix: Pixel counts over all compared images.
        images: Images compared, failed ones included.
        failed: Of those, images whose row is an error: every pixel of them counts as not found.
        without_label: Images with ground truth left out because their row needs no label.
        without_truth: Images left out because they have no ground truth, or a mask that ingest
            could not use, which the rejected table tells of.
        mismatched: Images left out because mask and label differ in size.
        samples: Of the images; None: there are none.
    """

    matrix: ConfusionMatrix
    images: int = 0
    failed: int = 0
    without_label: int = 0
    without_truth: int = 0
    mismatched: int = 0
    samples: Samples | None = None

    @classmethod
    def empty(cls, classes: int) -> Quality:
        """No images yet, for C = ``classes`` classes beside background."""
        return cls(ConfusionMatrix.empty(classes))

    def __add__(self, other: Quality) -> Quality:
        """Both together.

        Raises:
            ValueError: The numbers of classes differ.
        """
        return Quality(
            matrix=self.matrix + other.matrix,
            images=self.images + other.images,
            failed=self.failed + other.failed,
            without_label=self.without_label + other.without_label,
            without_truth=self.without_truth + other.without_truth,
            mismatched=self.mismatched + other.mismatched,
            samples=(
                self.samples + other.samples
                if self.samples and other.samples
                else self.samples or other.samples
            ),
        )


def evaluate_labels(
    table: pa.Table,
    truth: pa.Table,
    classes: int,
    labeller: Labeller,
    each: EachImage = lambda _, __: None,
) -> Quality:
    """Compare one part with its ground truth, with labels from a function.

    Args:
        table: A part with ``image_id`` and ``status`` columns.
        truth: The TRUTH part of the same name.
        classes: Number of classes C, background not counted; distractors, whose ids lie beyond,
            count as background.
        labeller: Row number → HW uint8 label map at image size; called for ``ok`` rows that have a
            ground truth, and for nothing else.
        each: Called with the row number and the pixel counts of each image compared.

    Returns:
        The summable quality of this part.

    Raises:
        StoreError: The two parts do not hold the same images in the same order.
    """
    if table["image_id"].to_pylist() != truth["image_id"].to_pylist():
        raise StoreError(
            "A part and its ground truth hold different images: the store was changed by hand; "
            "remove that part, or the truth table, and run the job again."
        )
    total, matrices = Quality.empty(classes), dict[str, ConfusionMatrix]()
    statuses = table["status"].to_pylist()
    ids: list[Any] = truth["image_id"].to_pylist()
    masks = zip(ids, truth["status"].to_pylist(), truth["label"], strict=True)
    for row, (image_id, truth_status, mask) in enumerate(masks):
        if truth_status != OK:
            total += Quality(ConfusionMatrix.empty(classes), without_truth=1)
        elif statuses[row] not in (OK, ERROR):
            total += Quality(ConfusionMatrix.empty(classes), without_label=1)
        else:
            failed = statuses[row] == ERROR
            expected = hide_labels(decode_labels(mask.as_py()), classes, BACKGROUND)
            shown = np.full_like(expected, IGNORE) if failed else labeller(row)
            found = hide_labels(shown, classes, BACKGROUND)
            compared = _compare(expected, found, classes, failed)
            total += compared
            if compared.images:
                matrices[image_id] = compared.matrix
                each(row, compared.matrix)
    return replace(total, samples=Samples.of(matrices) if matrices else None)


def evaluate_table(
    table: pa.Table,
    truth: pa.Table,
    classes: int,
    column: LabelColumn = "label",
    each: EachImage = lambda _, __: None,
) -> Quality:
    """Compare a part of a table with its ground truth.

    Args:
        table: A part of cues or predictions.
        truth: As for `evaluate_labels`.
        classes: As for `evaluate_labels`.
        column: ``label``: cues, or what is published; of predictions also ``label_network`` and
            ``label_without_crf``: the network's own, after and before the CRF.
        each: As for `evaluate_labels`.

    Raises:
        StoreError: The two parts do not hold the same images in the same order.
    """
    labels = table[column]

    def labeller(row: int) -> NDArray[np.uint8]:
        return decode_labels(labels[row].as_py())

    return evaluate_labels(table, truth, classes, labeller, each)


def summarize(quality: Quality, class_names: Sequence[str]) -> Figures:
    """The figures of a quality as plain JSON values.

    Args:
        quality: What was measured.
        class_names: The C names in id order, background left out.

    Raises:
        ValueError: The number of names is not the matrix's number of classes.
    """
    matrix = quality.matrix
    if len(class_names) != matrix.classes:
        raise ValueError(f"{len(class_names)} class names for a matrix of {matrix.classes} classes")
    iou, precision, recall, share = (
        [_or_none(float(value)) for value in values]
        for values in (matrix.iou(), matrix.precision(), matrix.recall(), matrix.shares())
    )
    samples = quality.samples or Samples.empty(matrix.classes)
    interval = samples.interval()
    return {
        "miou": _or_none(matrix.mean_iou()),
        "interval": (round(interval[0], 4), round(interval[1], 4)) if interval else None,
        "miou_labelled": _or_none(matrix.mean_iou("skip")),
        "accuracy": _or_none(matrix.accuracy()),
        "coverage": _or_none(matrix.coverage()),
        "images": quality.images,
        "failed": quality.failed,
        "without_label": quality.without_label,
        "without_truth": quality.without_truth,
        "mismatched": quality.mismatched,
        "per_class": {
            name: {
                "iou": iou[i],
                "precision": precision[i],
                "recall": recall[i],
                "share": share[i],
                "images": int(samples.shown[i]),
            }
            for i, name in enumerate(("background", *class_names))
        },
    }


def _compare(
    expected: NDArray[np.uint8], found: NDArray[np.uint8], classes: int, failed: bool
) -> Quality:
    if expected.shape != found.shape:
        return Quality(ConfusionMatrix.empty(classes), mismatched=1)
    return Quality(ConfusionMatrix.of(expected, found, classes), images=1, failed=int(failed))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
