"""Image scores are what ℓ_c trains, or the highest probability; columns are read as they lie."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from dcsp.selftags.scores import image_scores
from dcsp.selftags.table import scored
from dcsp.training.objective import classification_term
from tests.training.tiny import mean_of


def test_the_heads_score_is_the_probability_of_the_classification_loss() -> None:
    maps = np.random.default_rng(0).normal(0, 3, (4, 5, 6)).astype(np.float32)
    scores = image_scores(maps, "fcan")
    assert scores.dtype == np.float32
    tags = np.array([1, 0, 0, 1], np.float32)
    entropy = -np.log(np.where(tags > 0, scores, 1 - scores)).mean()
    logits = torch.from_numpy(maps)[None].mean(dim=(-2, -1))
    loss = mean_of(classification_term(logits, torch.from_numpy(tags)[None]))
    np.testing.assert_allclose(entropy, float(loss), rtol=1e-5)


def test_scores_stay_within_0_and_1_however_sure_a_network_is() -> None:
    for level, expected in ((-1e4, 0.0), (0.0, 0.5), (1e4, 1.0)):
        assert image_scores(np.full((1, 2, 2), level, np.float32), "fcan") == expected


def test_probabilities_count_where_they_are_highest_and_leave_background_out() -> None:
    logits = torch.randn((3, 4, 5), generator=torch.manual_seed(0))
    shares = logits.softmax(dim=0).numpy()
    found = image_scores(shares, "probabilities")
    np.testing.assert_array_equal(found, shares[1:].reshape(2, -1).max(axis=1))


def test_rows_without_scores_are_left_out() -> None:
    rows = {
        "tags": [[1, 3], [], [2], [3]],
        "scores": [[0.5, 0.25, 1.0], None, [0.0, 0.75, 0.5], None],
        "status": ["ok", "skipped", "ok", "error"],
    }
    schema = pa.schema(
        {"tags": pa.list_(pa.int16()), "scores": pa.list_(pa.float32()), "status": pa.string()}
    )
    whole = pa.table(rows, schema)
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    for table in (whole, pieces):
        scores, tagged = scored(table, 3)
        np.testing.assert_array_equal(scores, np.float32([[0.5, 0.25, 1.0], [0.0, 0.75, 0.5]]))
        assert tagged.tolist() == [[True, False, True], [False, True, False]]
    scores, tagged = scored(schema.empty_table(), 3)
    assert scores.shape == tagged.shape == (0, 3)
