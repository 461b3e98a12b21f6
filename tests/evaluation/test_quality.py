"""Quality of whole tables: which rows count, and how."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.quality import (
    LabelColumn,
    Quality,
    evaluate_labels,
    evaluate_table,
    summarize,
)
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.schemas import CUES, PREDICTIONS, TRUTH

CLASSES = 3
HEIGHT, WIDTH = 20, 30
Labels = NDArray[np.uint8]


def table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in rows], schema=schema
    )


def row(image_id: str, labels: Labels | None, status: str = "ok", **more: Any) -> dict[str, Any]:
    encoded = None if labels is None else encode_labels(labels)
    return {"image_id": image_id, "status": status, "label": encoded, **more}


def labels(seed: int, ignored: bool = False) -> Labels:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, CLASSES + 1, (HEIGHT, WIDTH), dtype=np.uint8)
    drawn[:2] = 255 if ignored else drawn[:2]
    return drawn


def test_cues_are_compared_row_by_row() -> None:
    truths = [labels(seed, ignored=True) for seed in range(4)]
    cues = [labels(10 + seed, ignored=seed == 1) for seed in range(4)]
    quality = evaluate_table(
        table(CUES, [row(str(i), cue) for i, cue in enumerate(cues)]),
        table(TRUTH, [row(str(i), truth) for i, truth in enumerate(truths)]),
        CLASSES,
    )
    expected = ConfusionMatrix.of(np.concatenate(truths), np.concatenate(cues), CLASSES)
    assert quality.matrix == expected
    assert (quality.images, quality.failed, quality.without_truth) == (4, 0, 0)


def test_parts_add_up_to_the_whole() -> None:
    cues = table(CUES, [row(str(seed), labels(seed)) for seed in range(6)])
    truth = table(TRUTH, [row(str(seed), labels(20 + seed)) for seed in range(6)])
    whole = evaluate_table(cues, truth, CLASSES)
    halves = [
        evaluate_table(cues.slice(start, 3), truth.slice(start, 3), CLASSES) for start in (0, 3)
    ]
    assert sum(halves, start=Quality.empty(CLASSES)) == whole


def test_failed_rows_count_as_found_nothing_and_skipped_rows_do_not_count() -> None:
    truth = labels(1)
    cues = table(
        CUES,
        [row("good", truth), row("failed", None, "error"), row("untagged", None, "skipped")],
    )
    truths = table(TRUTH, [row(name, truth) for name in ("good", "failed", "untagged")])
    quality = evaluate_table(cues, truths, CLASSES)
    assert (quality.images, quality.failed, quality.without_label) == (2, 1, 1)
    assert quality.matrix.coverage() == pytest.approx(50.0)
    assert quality.matrix.mean_iou() == pytest.approx(50.0)
    assert quality.matrix.mean_iou("skip") == 100.0


def test_images_without_truth_are_neither_counted_nor_decoded() -> None:
    truths = table(TRUTH, [row("a", None, "skipped"), row("b", None, "error")])
    cues = table(CUES, [row("a", None), row("b", None)])

    def never(_: int) -> Labels:
        raise AssertionError("an image without ground truth was decoded")

    quality = evaluate_labels(cues, truths, CLASSES, never)
    assert (quality.images, quality.without_truth, quality.matrix.pixels) == (0, 2, 0)


def test_a_mask_of_another_size_is_counted_as_mismatched() -> None:
    truths = table(TRUTH, [row("a", labels(1)[:-1])])
    quality = evaluate_table(table(CUES, [row("a", labels(1))]), truths, CLASSES)
    assert (quality.images, quality.mismatched, quality.matrix.pixels) == (0, 1, 0)


def test_parts_of_other_images_are_refused() -> None:
    cues = table(CUES, [row("a", labels(1)), row("b", labels(2))])
    truths = table(TRUTH, [row("b", labels(1)), row("a", labels(2))])
    with pytest.raises(StoreError, match="different images"):
        evaluate_table(cues, truths, CLASSES)


def test_what_is_published_and_what_the_network_made_are_compared() -> None:
    truth, rough, refined = labels(1), labels(2), labels(3)
    plain = {"label_without_crf": encode_labels(rough)}
    predictions = table(
        PREDICTIONS,
        [
            row("a", truth, label_network=encode_labels(refined), **plain),
            row("b", rough, label_network=encode_labels(truth), **plain),
        ],
    )
    truths = table(TRUTH, [row("a", truth), row("b", truth)])
    right, other, third = (ConfusionMatrix.of(truth, x, CLASSES) for x in (truth, rough, refined))
    expected: dict[LabelColumn, ConfusionMatrix] = {
        "label": right + other,
        "label_without_crf": other + other,
        "label_network": third + right,
    }
    for column, matrix in expected.items():
        assert evaluate_table(predictions, truths, CLASSES, column).matrix == matrix, column


def test_distractors_count_as_background() -> None:
    truth, shown = labels(1), labels(2)
    truths = table(TRUTH, [row("a", truth)])
    found = evaluate_table(table(CUES, [row("a", shown)]), truths, CLASSES - 1)
    hidden = [np.where(x == CLASSES, 0, x).astype(np.uint8) for x in (truth, shown)]
    assert found.matrix == ConfusionMatrix.of(hidden[0], hidden[1], CLASSES - 1)


def test_any_labeller_can_be_measured() -> None:
    cues = table(CUES, [row("a", labels(1)), row("b", labels(2))])
    truths = table(TRUTH, [row("a", labels(3)), row("b", labels(4))])
    decoded = [decode_labels(cell.as_py()) for cell in cues["label"]]
    assert evaluate_labels(cues, truths, CLASSES, decoded.__getitem__) == evaluate_table(
        cues, truths, CLASSES
    )


def test_a_summary_is_plain_json_with_none_for_undefined_figures() -> None:
    truth = np.zeros((4, 4), dtype=np.uint8)
    truth[:, 2:] = 1
    quality = evaluate_table(
        table(CUES, [row("a", truth)]), table(TRUTH, [row("a", truth)]), CLASSES
    )
    summary = json.loads(json.dumps(summarize(quality, ["cat", "dog", "cow"]), allow_nan=False))
    assert summary["miou"] == 100.0
    assert summary["per_class"]["background"]["share"] == 50.0
    assert summary["per_class"]["cat"] == {
        "iou": 100.0, "precision": 100.0, "recall": 100.0, "share": 50.0, "images": 1
    }  # fmt: skip
    assert summary["per_class"]["cow"]["iou"] is None


def test_a_summary_needs_a_name_for_each_class() -> None:
    with pytest.raises(ValueError, match="2 class names"):
        summarize(Quality.empty(CLASSES), ["cat", "dog"])
