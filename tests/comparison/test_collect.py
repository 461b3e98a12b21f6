"""From finished runs to the files of a comparison: the chain in this process, without Ray."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dcsp.comparison.collect import comparison_rows, measure_run, write_comparison
from dcsp.comparison.gallery import ComparedImage, choose_rows, compared_images
from dcsp.comparison.grid import CEILING, Axis, GridRun, expand
from dcsp.comparison.page import build_gallery_page
from dcsp.comparison.plans import corpus_key, describe_comparison, draft_plans
from dcsp.config.file import parse_config
from dcsp.corpus.listing import list_corpus
from dcsp.errors import ConfigError
from dcsp.run.plan import Plan
from dcsp.run.record import step_record
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import manifest_file, metrics_file, report_file
from dcsp.tables.snapshot import CorpusPart, Masks
from tests import chain
from tests.chain import table
from tests.report.test_page import Reader
from tests.threads import torch_threads

AXIS = Axis("cues.adapt.rounds", ("0", "1"))


@dataclass(frozen=True)
class Compared:
    """A comparison that has ended."""

    store: Store
    config_file: Path
    runs: list[GridRun]
    plans: list[Plan]
    directory: str
    markdown: str

    def file(self, name: str) -> str:
        return self.store.read_bytes(f"{self.directory}/{name}").decode()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Two combinations of the tiny chain, one seed."""
    folder = tmp_path_factory.mktemp("compared")
    detector = chain.write_detector(folder / "brightness.onnx")
    settings = chain.chain_config(folder / "store", detector).model_dump(mode="json")
    config_file = folder / "config.yaml"
    config_file.write_text(yaml.safe_dump(settings))
    runs = expand(config_file, ["predict.splits=[train, val]"], [AXIS], seeds=1)
    with torch_threads(1):
        snapshot = chain.ingest(runs[0].config)
        plans = [chain.compute(run.config, snapshot) for run in runs]
        for plan in plans:
            chain.evaluate(plan)
    store = Store(folder / "store")
    listing = list_corpus(store, runs[0].config.corpus, 0)
    listing.remember(snapshot, 1.0)
    return Compared(store, config_file, runs, plans, *write_comparison(store, runs, plans))


def test_mining_is_all_that_the_final_network_was_learnt_from(compared: Compared) -> None:
    without, adapted = (
        [step.title for step in p.behind(p.of(Role.JOINT)[-1])] for p in compared.plans
    )
    assert without == ["saliency", "fcan", "cues_phase0", "joint_phase0"]
    assert adapted == [*without, "cues_phase1", "joint_phase1"]


def test_figures_are_those_of_metrics_and_manifests(compared: Compared) -> None:
    plan = compared.plans[1]
    metrics = compared.store.read_json(metrics_file(plan.run_id))
    told: dict[str, Any] = {}
    for title in ("saliency", "cues_phase0", "cues_phase1"):
        step = plan.step(title)
        manifest = manifest_file(step.stage.key, step.scope(plan.snapshot))
        told[manifest] = compared.store.read_json(manifest)
        compared.store.write_json(manifest, told[manifest] | {"seconds": 1.0})
    found = measure_run(compared.store, plan)
    for manifest, before in told.items():
        compared.store.write_json(manifest, before)
    assert found["cue_miou"] == metrics["cues"]["phase0"]["miou"]
    assert found["adapt_cue_coverage"] == metrics["cues"]["phase1"]["coverage"]
    assert found["val_miou_crf"] == metrics["val"]["miou_crf"]
    tables = [
        step_record(compared.store, plan, plan.step(title))
        for title in ("saliency", "cues_phase0", "cues_phase1")
    ]
    images = [plan.snapshot.rows(splits) for splits in (["train", "val"], ["train"], ["train"])]
    sizes = [t["bytes"] / number for t, number in zip(tables, images, strict=True)]
    assert found["bytes_per_image"] == pytest.approx(sum(sizes))
    assert found["seconds_per_image"] == pytest.approx(sum(1 / number for number in images))


def test_every_combination_has_a_row_in_the_files(compared: Compared) -> None:
    rows = comparison_rows(compared.store, compared.runs, compared.plans)
    assert [row.settings for row in rows] == [{"rounds": "0"}, {"rounds": "1"}]
    assert [row.run_ids for row in rows] == [[plan.run_id] for plan in compared.plans]
    assert compared.directory.startswith("comparisons/tiny-")
    tree = json.loads(compared.file("table.json"))
    assert [row["runs"] for row in tree["rows"]] == [row.run_ids for row in rows]
    assert compared.file("table.md") == compared.markdown
    assert compared.file("table.csv").count("\n") == 3


def test_a_ceiling_stands_beside_every_figure(compared: Compared) -> None:
    split = ["predict.splits=[train, val]", "cues.adapt.rounds=0"]
    runs = expand(compared.config_file, split, [CEILING], seeds=1)
    assert [run.config.truth for run in runs] == ["evaluate", "train"]
    with torch_threads(1):
        plans = [chain.compute(run.config, compared.plans[0].snapshot) for run in runs]
        for plan in plans:
            chain.evaluate(plan)
    weak, full = comparison_rows(compared.store, runs, plans)
    for name, figure in (("published_to_full", "published_miou"), ("weak_to_full", "val_miou")):
        share = weak.figures[name]
        one, whole = weak.figures[figure], full.figures[figure]
        assert share and one and whole
        assert share.mean == pytest.approx(100 * one.mean / whole.mean)
        assert full.figures[name] is None
    markdown = write_comparison(compared.store, runs, plans)[1]
    assert "Published, of full" in markdown and "| train |" in markdown


def test_writing_again_gives_equal_files(compared: Compared) -> None:
    names = ("table.csv", "table.json", "table.md", "index.html", "gallery.html")
    before = [compared.file(name) for name in names]
    again, _ = write_comparison(compared.store, compared.runs, compared.plans)
    assert again == compared.directory
    assert [compared.file(name) for name in names] == before


def test_the_pages_nest_and_need_nothing_from_elsewhere(compared: Compared) -> None:
    for name in ("index.html", "gallery.html"):
        reader = Reader(compared.file(name))
        assert reader.open == [] and not {"script", "link", "iframe"} & set(reader.tags)
        assert all(v.startswith("data:image/") for n, v in reader.attributes if n == "src")
        for target in [value for key, value in reader.attributes if key == "href"]:
            assert (Path(compared.store.url) / compared.directory / target).exists()
    text = Reader(compared.file("index.html")).text
    assert "Val mIoU with CRF" in text and all(p.run_id in text for p in compared.plans)


def test_the_gallery_shows_the_same_images_under_every_combination(compared: Compared) -> None:
    labels = [run.combination.label for run in compared.runs]
    plans = dict(zip(labels, compared.plans, strict=True))
    images = list(compared_images(compared.store, plans))
    assert [image.split for image in images] == ["train"] * 4 + ["val"] * 2
    assert all(image.truth is not None for image in images)
    for label, plan in plans.items():
        last = len(plan.cue_steps) - 1
        tables = {
            f"cue {last}": table(plan, f"cues_phase{last}"),
            "prediction": table(plan, "predictions", ("train", "val")),
        }
        for image in images:
            for title, found in tables.items():
                data = found.get(image.image_id, {}).get("label")
                assert (title in image.made[label]) == (data is not None)
                if data:
                    assert np.array_equal(image.made[label][title], decode_labels(data))
    shown = {title for image in images for title in image.made["rounds=1"]}
    assert shown == {"cue 0", "cue 1", "prediction"}
    reader = Reader(compared.file("gallery.html"))
    assert all(image.image_id in reader.text for image in images)
    assert reader.text.count("rounds=1") == len(images)


def test_images_with_truth_come_first_and_else_any(compared: Compared) -> None:
    parts = [part for part in compared.plans[0].snapshot.parts if part.split == "train"]
    bare = [CorpusPart(part.name, part.split, part.rows) for part in parts]
    assert choose_rows(compared.store, bare, Masks(), 4) == [(bare[0], [0, 1, 2]), (bare[1], [0])]
    mixed = [bare[0], parts[1]]
    assert choose_rows(compared.store, mixed, Masks(), 2) == [(parts[1], [0, 1])]
    assert choose_rows(compared.store, parts, Masks(), 0) == []


def test_texts_of_the_gallery_are_escaped_and_scores_shown() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:4] = 1
    nasty = "<script>alert(1)</script>"
    picture = np.zeros((8, 8, 3), np.uint8)
    made = {nasty: {"cue 0": labels}, "b": {}}
    image = ComparedImage(nasty, "train", [1], picture, truth=labels, made=made)
    page = build_gallery_page(nasty, [image], [nasty])
    assert "<script" not in page and "cue 0, IoU 100.0" in Reader(page).text
    unmeasured = build_gallery_page("x", [replace(image, truth=None)], ["cat"])
    assert "IoU 1" not in Reader(unmeasured).text
    assert "No image to show" in Reader(build_gallery_page("x", [], ["cat"])).text


def test_a_dry_run_tells_what_runs_share_and_what_is_done(
    compared: Compared, tmp_path: Path
) -> None:
    before = describe_comparison(
        expand(compared.config_file, [f"store={tmp_path / 'new'}"], [AXIS], seeds=2)
    )
    assert not (tmp_path / "new").exists()
    lines = before.splitlines()
    assert lines[0].startswith("4 runs with ")
    assert " done" not in before
    shared = [line for line in lines if line.startswith("fcan")]
    assert [line.split()[-2:] for line in shared] == [["1,", "2"], ["3,", "4"]]
    assert all("after ingest" in line and "will run, shared" in line for line in shared)
    assert sum(line.startswith("saliency") for line in lines) == 2, "each seed has its own scenes"
    runs = expand(compared.config_file, [], [AXIS], seeds=1)
    after = describe_comparison(runs).splitlines()
    assert after[3].split()[:2] == ["1", "done"]
    assert all(" done" in line for line in after[3:5])
    assert any(line.startswith("fcan") and "done, shared" in line for line in after)
    assert any(line.startswith("joint_phase1") and line.endswith(" 2") for line in after)
    assert not any("will run" in line for line in after)


def test_runs_may_end_with_their_cues(compared: Compared) -> None:
    whole = zip(compared.runs, compared.plans, strict=True)
    plans = [chain.compute(run.config, plan.snapshot, "cues_phase0") for run, plan in whole]
    assert [step.title for step in plans[0].behind(plans[0].steps[-1])] == [
        "saliency",
        "fcan",
        "cues_phase0",
    ]
    for plan in plans:
        chain.evaluate(plan)
        metrics = compared.store.read_json(metrics_file(plan.run_id))
        assert set(metrics["cues"]) == {"phase0", "soft"} and "val" not in metrics
        report = compared.store.read_bytes(report_file(plan.run_id)).decode()
        assert "Cues alone" in report and "unmeasured" not in report
    directory, markdown = write_comparison(compared.store, compared.runs, plans)
    assert directory != compared.directory
    assert "Cue mIoU" in markdown and "Val mIoU" not in markdown
    gallery = compared.store.read_bytes(f"{directory}/gallery.html").decode()
    assert "cue 0" in gallery and ">prediction<" not in gallery
    text = describe_comparison(compared.runs, "cues_phase0")
    assert "joint_phase0" not in text and "will run" not in text
    with pytest.raises(ConfigError, match=r"combination rounds=0.*is none of cues_phase0\."):
        draft_plans(compared.runs, "cues_phase1")


def test_a_source_that_is_not_there_is_a_note(compared: Compared, tmp_path: Path) -> None:
    overrides = ["corpus={kind: folder, root: /nowhere/at/all, classes: [cat]}"]
    overrides.append(f"store={tmp_path / 'new'}")
    text = describe_comparison(expand(compared.config_file, overrides, [AXIS], seeds=2))
    assert text.splitlines()[-1].startswith("note: ") and text.count("note: ") == 1


def test_a_combination_without_its_weights_is_named(compared: Compared, tmp_path: Path) -> None:
    axis = Axis("network.weights", ("random", str(tmp_path / "no.pth")))
    runs = expand(compared.config_file, [], [axis], seeds=1)
    with pytest.raises(ConfigError, match=r"The combination weights=.*no\.pth is refused"):
        draft_plans(runs)


def test_the_seed_is_part_of_generated_scenes_alone() -> None:
    def key(seed: int, **corpus: object) -> str:
        return corpus_key(parse_config({"store": "x", "seed": seed, "corpus": corpus}))

    assert key(0, kind="scenes") != key(1, kind="scenes")
    assert key(0, kind="voc", root="a") == key(1, kind="voc", root="a")
    assert key(0, kind="voc", root="a") != key(0, kind="voc", root="a", limit=3)
