"""Label any folder of images with the published model.

    python jobs/predict.py --store STORE --images DIR --out DIR [--crf | --no-crf] [--run RUN]

DIR is a folder of images, at any depth, or a PASCAL VOC root (whose JPEGImages are taken). OUT gets
one PNG of class ids (VOC palette) for each image, under the image's name; ``predictions/`` with the
table; ``rejected.parquet`` with what could not be read. A killed job resumes when
submitted again. On several nodes, STORE, DIR and OUT must be reachable from each of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.config import CorpusSettings, RunConfig
from dcsp.errors import CorpusError, StoreError
from dcsp.export.masks import export_masks
from dcsp.inference.table import PredictionStage
from dcsp.methods.step import Step
from dcsp.pipeline import PREDICTIONS, Plan
from dcsp.runs import load_run
from dcsp.tables.mapping import part_file
from dcsp.tables.store import Store
from jobs._chain import Chain, say
from jobs._main import run_job

WORK = ".work"
"""Folder below OUT for what the job needs to resume; removed at its end."""


def main(arguments: Sequence[str]) -> None:
    """Label what the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--store", required=True, help="store with a published run")
    parser.add_argument("--images", required=True, metavar="DIR", help="images to label")
    parser.add_argument("--out", required=True, metavar="DIR", help="where masks are written")
    parser.add_argument(
        "--crf", action=argparse.BooleanOptionalAction, help="as trained by default"
    )
    parser.add_argument("--run", help="id of a run; the published one by default")
    parsed = parser.parse_args(arguments)
    models = Store(parsed.store)
    _, plan = load_run(models, parsed.run)
    if plan.model is None:
        raise StoreError(
            f"The run {plan.run_id} ended with its cues and has no network: name another with "
            "--run, or run jobs/relabel.py."
        )
    out = Path(parsed.out)
    config = predict_config(plan, Path(parsed.images), out, parsed.crf)
    stage = PredictionStage(
        config.predict,
        config.precision,
        config.network.max_side,
        config.corpus.max_pixels,
        plan.model.key,
        model_store=models,
    )
    chain = Chain(config)
    snapshot = chain.ingest(to_learn=False)
    work_plan = Plan(config, snapshot, (Step(PREDICTIONS, stage, ("train",)),))
    chain.run(work_plan, work_plan.steps[0])
    _deliver(chain.store, work_plan, stage, out)


def predict_config(plan: Plan, images: Path, out: Path, crf: bool | None) -> RunConfig:
    """The config of the published run, turned to a folder of untagged images.

    Raises:
        CorpusError: The folder is not there.
    """
    root = images / "JPEGImages" if (images / "JPEGImages").is_dir() else images
    if not root.is_dir():
        raise CorpusError(f"--images {images} is no folder: check the path.")
    corpus = CorpusSettings(
        kind="folder",
        root=str(root),
        classes=plan.snapshot.classes,
        splits=("train",),
        part_rows=min(plan.config.corpus.part_rows, 64),
        max_pixels=plan.config.corpus.max_pixels,
        max_rejected_share=1.0,
    )
    predict = plan.config.predict
    if crf is not None:
        predict = predict.model_copy(update={"crf": crf})
    update = {"store": str(out.absolute() / WORK), "corpus": corpus, "predict": predict}
    return plan.config.model_copy(update=update)


def _deliver(store: Store, plan: Plan, stage: PredictionStage, out: Path) -> None:
    """Masks, table and rejected rows into OUT; then what was only for resuming goes."""
    started = time.monotonic()
    tables = {
        part.name: part_file(stage.key.directory, part.name) for part in plan.snapshot.of(["train"])
    }
    done = export_masks((store.read_table(file) for file in tables.values()), out)
    final = Store(str(out.absolute()))
    final.remove("predictions")
    for name, file in tables.items():
        final.write_bytes(part_file("predictions", name), store.read_bytes(file))
    rejected = f"corpus/{plan.snapshot.fingerprint}.rejected.parquet"
    final.write_bytes("rejected.parquet", store.read_bytes(rejected))
    final.remove(WORK)
    say(f"export: {time.monotonic() - started:.1f} s")
    print(f"{done.written} masks in {out}, {done.left_out} images failed", end="")
    print(f", {plan.snapshot.rejected} rejected (see rejected.parquet)")


if __name__ == "__main__":
    run_job(main)
