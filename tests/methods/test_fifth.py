"""A fifth method from outside the package: self-tags, report, comparison, verify and all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dcsp.comparison.grid import expand, parse_axis
from dcsp.config import CueSettings, RunConfig
from dcsp.config.cues import METHOD_NAMES
from dcsp.config.file import dump_config, parse_config
from dcsp.cues.stage import CueStage, Row
from dcsp.cues.table import CueRow
from dcsp.errors import ConfigError
from dcsp.inspection.verify import verify_store
from dcsp.inspection.verify_outputs import schemas
from dcsp.methods.registry import METHODS, register
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import load_model
from dcsp.stages.parts import read_part
from dcsp.stages.stage import Device
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import part_file, report_file, run_file
from jobs import _comparing
from tests import chain
from tests.methods.fifth.method import ContrastMethod
from tests.methods.fifth.settings import ContrastSettings
from tests.threads import torch_threads

TRAIN = {"steps": 2, "batch": 2, "crop": 64, "learning_rate": 0.01}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """The method, known to the tests of this module alone."""
    register("contrast", ContrastMethod(), ContrastSettings)
    yield
    del METHODS["contrast"], CueSettings.model_fields["contrast"]
    METHOD_NAMES.remove("contrast")
    CueSettings.model_rebuild(force=True)
    RunConfig.model_fields["cues"].default = CueSettings()
    RunConfig.model_rebuild(force=True)


@pytest.fixture(scope="module")
def config(registered: None, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("fifth")
    tree = chain.chain_config(
        folder / "store",
        chain.write_detector(folder / "brightness.onnx"),
        cues={"method": "contrast", "contrast": {"train": TRAIN}},
        fcan=TRAIN,
        selftags={"use": "train", "precision": 0.01, "min_support": 1},
        precision={"autocast": "bf16"},  # as it is by default
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
    assert [step.title for step in plan.behind(helper)] == ["fcan", "cues_seeds", "pixel"]


def test_its_cues_are_background_tags_or_ignored(done: tuple[Plan, dict[str, Any]]) -> None:
    plan, _ = done
    shown = set()
    for row in chain.table(plan, "cues_phase0").values():
        if row["status"] == "ok":
            ids = set(np.unique(np.array(Image.open(io.BytesIO(row["label"])))).tolist())
            assert ids <= {0, *row["tags"], 255}
            shown |= ids
    assert 255 in shown and len(shown) > 1


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
        plans = _comparing.compute(runs, "cues_phase0")
    _, markdown = _comparing.write_comparison(Store(tree["store"]), runs, plans)
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


@pytest.mark.parametrize("name", ["contrast", "crf", "adapt", "method"])
def test_no_setting_of_others_is_overwritten(name: str) -> None:
    with pytest.raises(ValueError, match=f"have a '{name}' already"):
        register(name, ContrastMethod(), ContrastSettings)


def test_cues_that_know_no_self_tags_are_refused(done: tuple[Plan, dict[str, Any]]) -> None:
    @dataclass(frozen=True)
    class Plain(CueStage):
        config: RunConfig
        method = "plain"
        given_key = StageKey("cues", 1)

        def cue(self, row: Row) -> CueRow:
            return CueRow(error=row["error"] if row["raw"] is None else None)

    plain = Plain(done[0].config)
    with pytest.raises(ConfigError, match=r"a Plain cannot be mined by self-tags: set selftags"):
        plain.by_selftags(StageKey("selftags", 1))
    rows = read_part(Store(done[0].config.store), plain.inputs, done[0].snapshot.parts[0].name)
    found = plain.load(Store("unused"), Device())(rows)  # without a network, raw is null
    assert "bytes" not in found.column_names and found["raw"].null_count == found.num_rows
    wanted = [bool(tags) for tags in rows["tags"].to_pylist()]
    assert plain.finish(found)["status"].to_pylist() == ["ok" if w else "skipped" for w in wanted]


def test_two_steps_of_one_title_are_a_mistake_of_the_method(
    done: tuple[Plan, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ContrastMethod.first

    def twice(self: ContrastMethod, *args: Any) -> Iterator[Any]:
        for step in real(self, *args):
            yield step
            if step.role is Role.SEEDS:
                yield replace(step, stage=replace(step.stage, phase=7))

    monkeypatch.setattr(ContrastMethod, "first", twice)
    with pytest.raises(ValueError, match="two different steps the title cues_seeds"):
        build_plan(done[0].config, done[0].snapshot)


def test_a_run_is_read_where_a_method_that_it_did_not_use_is_not_known(
    done: tuple[Plan, dict[str, Any]], tmp_path: Path
) -> None:
    store = Store(done[0].config.store)
    told = json.loads(json.dumps(store.read_json(run_file(done[0].run_id))))
    told["config"]["cues"] |= {"method": "dcsp", "sixth": {"least": 1}}
    store.write_json(run_file("other"), told | {"run_id": "other"})
    assert load_model(store, "other").config.cues.method == "dcsp"
    told["config"]["cues"]["method"] = "sixth"
    store.write_json(run_file("other"), told | {"run_id": "other"})
    with pytest.raises(ConfigError, match="sixth"):
        load_model(store, "other")


def test_a_loss_on_saliency_needs_a_method_that_has_it(
    done: tuple[Plan, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ContrastMethod, "saliency", lambda *_: None)
    assert build_plan(done[0].config, done[0].snapshot).trainings
    joint = done[0].config.joint.model_copy(update={"saliency_weight": 1.0})
    asking = done[0].config.model_copy(update={"joint": joint})
    with pytest.raises(ConfigError, match=r"joint asks for saliency .* cues\.method=contrast has"):
        build_plan(asking, done[0].snapshot)
