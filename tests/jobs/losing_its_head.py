"""A job whose stage takes minutes, to be watched when its cluster goes away.

Arguments: the address, a scratch folder, and what runs: ``items``, ``table`` or ``training``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

from dcsp.config import ClusterSettings, RunConfig
from dcsp.config.file import load_config
from dcsp.progress import Progress
from dcsp.store.store import Store
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import run_job
from tests.jobs.stages import LengthStage, faulty, write_ids
from tests.jobs.tiny import write_config, write_detector

SECONDS = 600.0


def main(arguments: Sequence[str]) -> None:
    """Begin what takes long, and say so."""
    address, folder, kind = arguments
    scratch = Path(folder)
    file = write_config(scratch / "tiny.yaml", write_detector(scratch / "brightness.onnx"))
    config = load_config(file, [f"store={scratch / 'store'}", "cluster.executor=here"])
    settings = ClusterSettings(address=address, use_gpu=False)
    with hold(Store(config.store), "losing", config):
        resources = _cluster.connect(settings)
        progress = Progress(kind, 1, stream=io.StringIO())
        store = Store(config.store)
        if kind == "items":

            def wait(name: str) -> None:
                Path(name).touch()
                time.sleep(SECONDS)

            _cluster.map_items(wait, [str(scratch / "begun")] * 3, settings, title=kind)
        elif kind == "table":
            todo = write_ids(store, parts=2, rows=2)
            stage = LengthStage(folder, seconds=SECONDS)
            _cluster.map_parts(store, stage, todo, resources, settings, progress)
        else:
            _train(scratch, config, settings)


def _train(scratch: Path, config: RunConfig, settings: ClusterSettings) -> None:
    """The tiny run's first training, which hangs in its third step."""
    plan = Chain(config).plan()
    stage = plan.step("fcan").stage
    assert isinstance(stage, TrainStage)
    hanging = faulty(stage, scratch, "hangs")
    progress = Progress(stage.title, 1, stream=io.StringIO())
    resources = _cluster.connect(settings)
    todo = plan.snapshot.of(["train"])
    _cluster.train(Store(config.store), hanging, todo, resources, settings, progress)


if __name__ == "__main__":
    run_job(main)
