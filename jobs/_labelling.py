"""Labels of any folder of images, by the network of a run."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pyarrow as pa

from dcsp.config import CorpusSettings, RunConfig
from dcsp.corpus.sources.folder import FolderSource
from dcsp.errors import CorpusError
from dcsp.exports.rows import export_masks
from dcsp.inference.table import PredictionStage
from dcsp.inspection.destination import PREDICT, claim_folder, mark_folder
from dcsp.inspection.inventory import find_run
from dcsp.progress import say
from dcsp.run.plan import Plan
from dcsp.run.record import RunModel, load_model
from dcsp.stages.parts import live_rows
from dcsp.stages.step import Role, Step
from dcsp.store.store import Store
from dcsp.tables.layout import part_file, rejected_file
from dcsp.tables.snapshot import TRAIN, Part
from dcsp.text import duration

from ._chain import Chain
from ._lease import hold

PREDICTIONS = "predictions"
"""Folder below OUT for the table."""
WORK = ".work"
"""Folder below OUT for what the job needs to resume; removed at its end."""
SPLITS: Final = (TRAIN,)
"""Every image is listed as one of this split: there is no tag table to say otherwise."""


def label_folder(
    store: str, images: Path, out: Path, *, crf: bool | None, run_id: str | None
) -> None:
    """Label the images of a folder.

    Args:
        store: With a run that has a network.
        images: Folder of the images.
        out: Where masks, the table and what was rejected go.
        crf: Whether labels are refined by the CRF; None: as the run was to be.
        run_id: Of the run, or the start of it; None: the published one.

    Raises:
        CorpusError: There is no such folder.
        ConfigError: Something else lies in ``out``.
        StoreError: There is no such run, or it has no network.
    """
    models = Store(store)
    model = load_model(models, find_run(models, run_id).run_id if run_id else None)
    root = _image_root(images)
    final = claim_folder(PREDICT, out, {"--images": Store(str(root)), "STORE": models})
    config = predict_config(model, root, out, crf)
    stage = PredictionStage.of(config, model.checkpoint, models)
    with hold(final, "predict", config) as lease:
        chain = Chain(config, lease, trains=False)
        snapshot = chain.ingest(FolderSource(str(root.absolute()), SPLITS, tagged=False))
        step = Step(Role.PREDICTIONS, PREDICTIONS, stage, splits=SPLITS)
        plan = Plan(config, snapshot, (step,))
        chain.run(plan, plan.steps[0])
        result = {
            "run": model.run_id,
            "network": model.checkpoint,
            "classes": config.corpus.classes,
        }
        mark_folder(PREDICT, final, result)
        _deliver(chain.store, plan, final, out)


def predict_config(model: RunModel, root: Path, out: Path, crf: bool | None) -> RunConfig:
    """The config of the network's run, turned to a folder of untagged images."""
    corpus = CorpusSettings(
        kind="folder",
        root=str(root),
        classes=model.config.corpus.classes,
        distractors=model.config.corpus.distractors,
        distractors_are=model.config.corpus.distractors_are,
        splits=SPLITS,
        part_rows=min(model.config.corpus.part_rows, 64),
        max_pixels=model.config.corpus.max_pixels,
        max_rejected_share=1.0,
    )
    predict = model.config.predict
    if crf is not None:
        predict = predict.model_copy(update={"crf": crf})
    update = {
        "store": str(out.absolute() / WORK),
        "corpus": corpus,
        "predict": predict,
        # What the nightly job that trained it asks of its cluster is not asked of this one.
        "cluster": model.config.cluster.model_copy(
            update={
                "total_minutes": None,
                "actors": None,
                "use_gpu": None,
                **({} if find_spec("ray") else {"executor": "here"}),
            }
        ),
    }
    return model.config.model_copy(update=update)


def _image_root(images: Path) -> Path:
    """The folder whose images are labelled.

    Raises:
        CorpusError: It is not there.
    """
    root = images / "JPEGImages" if (images / "JPEGImages").is_dir() else images
    if not root.is_dir():
        raise CorpusError(f"--images {images} is no folder: check the path.")
    return root


def _deliver(store: Store, plan: Plan, final: Store, out: Path) -> None:
    """Masks, table and rejected rows into OUT; then what was only for resuming goes."""
    started = time.monotonic()
    directory = plan.steps[0].stage.key.directory
    parts = {part.name: part for part in plan.snapshot.of(SPLITS)}

    def table(part: Part) -> pa.Table:
        return live_rows(store.read_table(part_file(directory, part.name)), part.dead)

    for name in final.parts(PREDICTIONS) - set(parts):  # masks of a folder of that name stay
        final.remove(part_file(PREDICTIONS, name))
    for name, part in parts.items():
        final.write_table(part_file(PREDICTIONS, name), table(part))
    rejected = rejected_file(plan.snapshot.fingerprint)
    final.write_bytes("rejected.parquet", store.read_bytes(rejected))
    done = export_masks(map(table, parts.values()), out)
    final.remove(WORK)
    say(f"export: {duration(time.monotonic() - started)}")
    print(f"{done.written} masks in {out}, {done.left_out} images failed", end="")
    print(f", {plan.snapshot.rejected} rejected (see rejected.parquet)")
    if done.told:
        print(done.told)
