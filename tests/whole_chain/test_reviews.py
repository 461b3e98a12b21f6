"""Reviews are compared: the next round of picked images and that of random ones."""

from __future__ import annotations

import shutil
from pathlib import Path

from dcsp.inspection.inventory import find_run
from dcsp.store.store import Store
from tests.quality.review import compare
from tests.whole_chain.conftest import Done


def test_the_next_round_of_picked_images_is_compared_with_that_of_random_ones(
    done: Done, tmp_path: Path
) -> None:
    shutil.copytree(done.plan.config.store, tmp_path / "store")
    store = Store(tmp_path / "store")
    found = compare(store, find_run(store), 2, tmp_path, ["joint.steps=1"])
    for kind in ("picked", "random"):
        assert len(list((tmp_path / f"{kind}-{done.plan.config.seed}").glob("*.png"))) == 2
        mined, learned, published = (
            found[kind][name] for name in ("all", "learned_from", "with_corrections")
        )
        assert mined < published, "masks are better than cues"
        assert mined <= learned <= published, "a half of the corrections is learned from"
    assert found["before"]["with_corrections"] == found["before"]["all"] > 0
