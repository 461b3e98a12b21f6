"""A fifth method from outside the package: self-tags, report, comparison, verify and all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dcsp.comparison.grid import expand, parse_axis
from dcsp.config import RunConfig
from dcsp.config.file import dump_config, parse_config
from dcsp.errors import ConfigError
from dcsp.inspection.verify import schemas, verify_store
from dcsp.methods.registry import METHODS, register
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import part_file, report_file
from jobs import compare
from tests import chain
from tests.methods.fifth.method import ContrastMethod
from tests.methods.fifth.settings import ContrastSettings
from tests.threads import torch_threads

TRAIN = {"steps": 2, "batch": 2, "crop": 64, "learning_rate": 0.01}
if "contrast" not in METHODS:
    register("contrast", ContrastMethod(), ContrastSettings)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("fifth")
    tree = chain.chain_config(
        folder / "store",
        chain.write_detector(folder / "brightness.onnx"),
        cues={"method": "contrast", "contrast": {"train": TRAIN}},
        fcan=TRAIN,
        selftags={"use": "train", "precision": 0.01, "min_support": 1},
    )
    return tree


@pytest.fixture(scope="module")
def done(config: RunConfig) -> tuple[Plan, dict[str, Any]]:
    with torch_threads(1):
        plan = chain.compute(config, chain.ingest(config))
        return plan, chain.evaluate(plan)


def test_its_steps_stand_in_the_plan(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, _ = done
    titles = [step.title for step in plan]
    first = ["cues_seeds", "pixel", "contrast", "selfcues_phase0", "cues_phase0", "joint_phase0"]
    assert titles[titles.index("cues_seeds") :][: len(first)] == first
    (cues, *_), (helper,) = plan.cue_steps, plan.of(Role.HELPER)
    assert {step.title for step in plan.reads(cues)} == {"pixel", "contrast"}
    assert [step.title for step in plan.behind(helper)] == [
        "saliency",
        "fcan",
        "cues_seeds",
        "pixel",
    ]


def test_its_cues_are_background_tags_or_ignored(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, _ = done
    shown = set()
    for row in chain.table(plan, "cues_phase0").values():
        if row["status"] == "ok":
            ids = set(np.unique(np.array(Image.open(io.BytesIO(row["label"])))).tolist())
            assert ids <= {0, *row["tags"], 255}
            shown |= ids
    assert {0, 255} <= shown  # two steps teach little


def test_self_tags_are_mined_by_it(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, _ = done
    given = chain.table(plan, "selftags")[chain.UNTAGGED]
    found = chain.table(plan, "selfcues_phase0")[chain.UNTAGGED]
    assert given["selftags"] and (found["status"], found["tags"]) == ("ok", given["selftags"])


def test_it_is_measured_and_its_report_speaks_of_it(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, metrics = done
    assert {"seeds", "phase0", "phase1", "selfcues_phase0"} <= set(metrics["cues"])
    page = Store(plan.config.store).read_bytes(report_file(plan.run_id)).decode()
    assert "Looking again" in page and "Adapting" not in page and "contrast" in page


def test_its_table_is_verified(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, _ = done
    store = Store(plan.config.store)
    assert schemas()["contrast"].names[-3:] == ["contrast", "status", "error"]
    known = verify_store(store).problems  # one image of the corpus was damaged on purpose
    assert not [problem for problem in known if "contrast" in problem]
    (step,) = plan.of(Role.TABLE)
    file = part_file(step.stage.key.directory, plan.parts(step)[0].name)
    whole = store.read_bytes(file)
    store.write_table(file, store.read_table(file).drop_columns(["contrast"]))
    assert [problem for problem in verify_store(store).problems if file in problem]
    store.write_bytes(file, whole)


def test_it_is_compared_with_others(
    done: tuple[Plan, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = done
    tree = yaml.safe_load(dump_config(plan.config))
    tree["store"] = str(tmp_path / "compared")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    axes = [parse_axis("cues.method=contrast,dcsp")]
    runs = expand(tmp_path / "config.yaml", ["selftags.use=never"], axes, seeds=1)
    with torch_threads(1):
        plans = compare.compute(runs, "cues_phase0")
    _, markdown = compare.write_comparison(Store(tree["store"]), runs, plans)
    assert "contrast" in markdown and "Start cue mIoU" in markdown


def test_its_settings_are_checked_like_any_others() -> None:
    base = {"store": "x", "corpus": {"kind": "scenes"}}
    assert parse_config(base).cues.contrast.least == 0.02  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"cues\.contrast\.lest', did you mean 'least'"):
        parse_config(base | {"cues": {"contrast": {"lest": 1}}})
    with pytest.raises(ConfigError, match=r"'sixth' is no cue method: name one of .*contrast"):
        parse_config(base | {"cues": {"method": "sixth"}})


def test_a_refinement_needs_evidence(config: RunConfig, done: tuple[Plan, dict[str, Any]]) -> None:
    cues = config.cues.model_copy(update={"refine": "affinity"})
    with pytest.raises(ConfigError, match=r"evidence .* cues\.method=contrast do not tell"):
        build_plan(config.model_copy(update={"cues": cues}), done[0].snapshot)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="a cue method 'contrast' already"):
        register("contrast", ContrastMethod(), ContrastSettings)
