"""Commands that look into a store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcsp.run.history import Event, add_event
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, catalogue_file, part_file
from dcsp.tables.schemas import RULES_SINCE
from tests.cli.running import dcsp, line
from tests.report.pages import Reader, assert_self_contained
from tests.store_fixture import CUES_KEY, ROUGH

REPOSITORY = Path(__file__).parents[2]


def test_show_lists_runs_tables_and_checkpoints(store: Store) -> None:
    text = dcsp("show", store.url).output
    assert line(text, "demo-2222") == (
        ["demo-2222", "(published)", "2026-08-01T10:02:00Z", "51.50", "30.00", "32.00"]
    )
    assert line(text, "demo-1111")[-3:] == ["51.50", "40.00", "42.00"]
    assert line(text, CUES_KEY.directory)[1:5] == ["1", "2", "0", "1"]
    assert line(text, CUES_KEY.directory)[-2:] == ["2", "runs"]
    assert line(text, "checkpoints/")[1:3] == ["joint_phase0", "40"]


def test_show_marks_what_is_not_finished(store: Store) -> None:
    store.remove("runs/demo-2222/metrics.json")
    for name in store.list(CUES_KEY.directory):
        if name.startswith("complete-"):
            store.remove(f"{CUES_KEY.directory}/{name}")
    text = dcsp("show", store.url).output
    assert line(text, "demo-2222")[2] == "no"
    assert line(text, CUES_KEY.directory)[2:5] == ["?", "?", "?"]


def test_show_starts_without_the_libraries_of_jobs(store: Store) -> None:
    script = (
        "import sys\nfrom dcsp.cli import app\n"
        f"app(['show', {store.url!r}], standalone_mode=False)\n"
        "print({'torch', 'ray', 'onnxruntime', 'skimage'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "set()"


def test_explain_says_what_decided_a_fingerprint(store: Store) -> None:
    for name in (CUES_KEY.directory, CUES_KEY.fingerprint[:6]):
        text = dcsp("explain", store.url, name).output
        assert "gamma_low: 0.4" in text and "seed: 3" in text and "fcan: " + "ff" * 10 in text
        assert "demo-1111" in text and "seconds: 1.5" in text


def test_explain_tells_where_an_input_lies(store: Store) -> None:
    key = store.read_json(f"{CUES_KEY.directory}/stage.json")
    checkpoint = f"checkpoints/{store.list('checkpoints')[0]}"
    key["inputs"] = {"fcan": checkpoint.partition("/")[2]}
    store.write_json(f"{CUES_KEY.directory}/stage.json", key)
    assert checkpoint in dcsp("explain", store.url, CUES_KEY.directory).output


def test_explain_tells_all_that_was_made_of_an_image(store: Store) -> None:
    text = dcsp("explain", store.url, "sub/two").output
    assert line(text, "image") == ["image:", "sub/two"] and line(text, "tags") == ["tags:", "cat"]
    assert line(text, "part") == ["part:", "aa11,", "row", "1"]
    assert line(text, "cues phase 0") == ["cues", "phase", "0:", "ok"]
    assert "error, torn" in dcsp("explain", store.url, "three").output
    earlier = dcsp("explain", store.url, "four", "--run", "demo-1").output
    assert line(earlier, "run") == ["run:", "demo-1111"]


def test_explain_draws_the_sheet_of_an_image(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "sheets"
    told = dcsp("explain", store.url, "sub/two", "--out", out).output
    files = [out / "sub_two.html", out / "sub_two.png"]
    assert told.split() == [str(file) for file in files] and sorted(out.iterdir()) == files
    assert_self_contained(files[0].read_text())
    with Image.open(files[1]) as picture:
        assert picture.format == "PNG"
    dcsp("explain", store.url, "sub/two", "--out", tmp_path / "one.html")
    assert (tmp_path / "one.html").read_text() == files[0].read_text()
    told = dcsp("explain", store.url, "one", "--out", tmp_path / "a.pdf", code=2).output
    assert "is neither .html nor .png nor a folder" in told.replace("\n", " ")


def rename(store: Store, old: str, new: str) -> None:
    """Give an image of the training part another id, wherever it is named."""
    run = store.read_json("runs/demo-2222/run.json")
    directories = [CORPUS_DIRECTORY, *(step["directory"] for step in run["steps"])]
    files = [part_file(directory, "aa11") for directory in directories]
    files += ["truth/aa11.parquet", catalogue_file(run["snapshot"])]
    for file in filter(store.exists, files):
        table = store.read_table(file)
        ids = [new if name == old else name for name in table["image_id"].to_pylist()]
        column = table.schema.get_field_index("image_id")
        store.write_table(file, table.set_column(column, table.schema.field(column), [ids]))


def test_an_image_is_reached_whatever_its_id_looks_like(store: Store) -> None:
    start = CUES_KEY.fingerprint[:6]
    assert "decided by" in dcsp("explain", store.url, start).output
    rename(store, "one", start)
    assert line(dcsp("explain", store.url, start).output, "image") == ["image:", start]
    for table in (CUES_KEY.directory, CUES_KEY.fingerprint[:7]):
        assert "decided by" in dcsp("explain", store.url, table).output
    rename(store, start, CUES_KEY.directory)
    assert "decided by" in dcsp("explain", store.url, CUES_KEY.directory).output
    text = dcsp("explain", store.url, CUES_KEY.directory, "--run", "demo-2222").output
    assert line(text, "image") == ["image:", CUES_KEY.directory]


def test_explain_says_what_was_meant(store: Store) -> None:
    told = dcsp("explain", store.url, "sub/tow", code=2).output
    assert "did you mean 'sub/two'?" in told and "no output 'sub/tow'" in told
    told = dcsp("explain", store.url, "sub/tow", "--run", "demo-1111", code=2).output
    assert told.strip().endswith(
        "The run demo-1111 has no image 'sub/tow': did you mean 'sub/two'?"
    )
    store.remove("CURRENT")
    told = dcsp("explain", store.url, "sub/two", code=2).output
    assert told.startswith("error: The store") and "no output 'sub/two'" in told


def test_diff_shows_only_what_differs(store: Store) -> None:
    text = dcsp("diff", store.url, "demo-1111", "demo-2222").output
    assert line(text, "cues.gamma") == ["cues.gamma", "0.4", "0.3"]
    assert line(text, "val.miou ") == ["val.miou", "40.00", "30.00", "-10.00"]
    assert line(text, "predictions")[1].startswith("predictions/")
    assert "corpus: the same" in text
    assert "seed" not in text and "cues.phase0.miou" not in text and "val.figures.x" not in text
    same = dcsp("diff", store.url, "demo-1", "demo-1").output
    assert [line for line in same.splitlines() if line] == [
        f"{name}: the same"
        for name in ("settings", "corpus", "stages", "versions", "figures", "labels")
    ]


def relabel(store: Store, run_id: str, image_id: str, label: np.ndarray | None) -> None:
    """Give an image of a run another label, or none."""
    directory = store.read_json(f"runs/{run_id}/run.json")["steps"][-1]["directory"]
    for name in sorted(store.parts(directory)):
        table = store.read_table(part_file(directory, name))
        rows = table.to_pylist()
        for row in rows:
            if row["image_id"] == image_id:
                row["label"] = None if label is None else encode_labels(label)
        store.write_table(part_file(directory, name), pa.Table.from_pylist(rows, table.schema))


def test_diff_tells_which_labels_changed(store: Store) -> None:
    relabel(store, "demo-2222", "sub/two", ROUGH)
    relabel(store, "demo-2222", "four", None)
    result = dcsp("diff", store.url, "demo-1111", "demo-2222")
    text = result.stdout
    assert "5/5 images" in result.stderr
    assert line(text, "in both") == ["in", "both", "5", "24"]
    # LABELS has two pixels of each of background and dog, one of cat and one ignored.
    assert line(text, "changed")[:3] == ["changed", "2", "9"]
    assert line(text, "label lost") == ["label", "lost", "1"]
    assert "label gained" not in text and "gone" not in text
    lines = text.splitlines()
    first = next(i for i, told in enumerate(lines) if told.startswith("pixels that changed"))
    assert [told.split() for told in lines[first + 2 : first + 9]] == [
        ["background", "ignored", "2", "22.2"],
        ["dog", "background", "2", "22.2"],
        ["dog", "ignored", "2", "22.2"],
        ["cat", "background", "1", "11.1"],
        ["cat", "ignored", "1", "11.1"],
        ["ignored", "background", "1", "11.1"],
        [],
    ]
    assert line(text, "four") == ["four", "83.3"] and line(text, "sub/two") == ["sub/two", "66.7"]


def test_diff_writes_a_page_of_the_most_changed_images(store: Store, tmp_path: Path) -> None:
    relabel(store, "demo-2222", "sub/two", ROUGH)
    relabel(store, "demo-2222", "four", None)
    out = tmp_path / "deep" / "diff.html"
    assert str(out) in dcsp("diff", store.url, "demo-1111", "demo-2222", "--out", out).output
    page = Reader(out.read_text())
    assert_self_contained(out.read_text())
    for words in ("demo-1111 → demo-2222", "Most changed images", "demo-2222 has no label of it"):
        assert words in page.text, words
    assert page.text.index("four") < page.text.index("sub/two")
    alternatives = [value for name, value in page.attributes if name == "alt"]
    assert alternatives == [
        *("image", "demo-1111"),
        *("image", "demo-2222", "demo-1111", "changed"),
    ]


def test_diff_of_a_run_without_labels_tells_the_rest(store: Store, tmp_path: Path) -> None:
    record = store.read_json("runs/demo-1111/run.json")
    record["steps"] = record["steps"][:1]
    store.write_json("runs/demo-1111/run.json", record)
    text = dcsp("diff", store.url, "demo-1111", "demo-2222").output
    assert "cues.gamma" in text
    assert "labels: not compared: The run demo-1111 ended with its cues" in text
    out = tmp_path / "diff.html"
    told = dcsp("diff", store.url, "demo-1111", "demo-2222", "--out", out, code=2).output
    assert "ended with its cues" in told and not out.exists()


def test_diff_tells_versions_of_code_and_libraries(store: Store) -> None:
    record = store.read_json("runs/demo-1111/run.json")
    store.write_json("runs/demo-1111/run.json", record | {"versions": {"torch": "2.6"}})
    file = f"{record['steps'][-1]['directory']}/stage.json"
    store.write_json(file, store.read_json(file) | {"version": 2})
    text = dcsp("diff", store.url, "demo-1111", "demo-2222").output
    assert line(text, "torch") == ["torch", "2.6", "-"]
    assert line(text, "stage predictions") == ["stage", "predictions", "2", str(RULES_SINCE)]
    assert "stage cues_phase0" not in text


def test_verify_tells_whether_the_store_is_whole(store: Store) -> None:
    result = dcsp("verify", store.url)
    assert "the store is whole: 11 parts" in result.output and "11/11 parts" in result.stderr
    store.write_bytes("CURRENT", b"gone\n")
    assert "CURRENT names a run" in dcsp("verify", store.url, code=1).output


def test_report_tells_where_the_page_is_and_copies_it(store: Store, tmp_path: Path) -> None:
    page = f"{store.url}/runs/demo-2222/report/index.html"
    assert dcsp("report", store.url).output.split() == page.split()
    copy = tmp_path / "deep" / "report.html"
    dcsp("report", store.url, "demo-1111", "--out", copy)
    assert copy.read_text() == "<p>demo-1111</p></html>"


def test_a_run_that_has_not_ended_has_no_report(store: Store) -> None:
    store.remove("runs/demo-1111/metrics.json")
    assert "has not ended" in dcsp("report", store.url, "demo-1111", code=2).output


def test_history_tells_of_runs_that_are_gone_and_of_what_was_not_carried_out(store: Store) -> None:
    dcsp("publish", store.url, "demo-1111")
    held = Event("held back", "demo-3333", "relabel", "demo-1111", reasons=("a\x1b", "b"))
    add_event(store, held)
    add_event(store, Event("published", "demo-2222", "relabel", "demo-1111"))  # and was killed
    *_, told, killed, _, _ = dcsp("history", store.url).output.splitlines()
    assert "held back" in told and " gone " in told and told.endswith("a\\x1b; b")
    assert "not carried out" in killed and "demo-2222" in killed


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    """What a command prints as one document of JSON: nothing else is on standard output."""
    return dict(
        json.loads(dcsp(*arguments, "--json", code=code).stdout, parse_constant=pytest.fail)
    )


def test_show_tells_programs_the_same(store: Store) -> None:
    told = document("show", store.url)
    runs = {run["run_id"]: run for run in told["runs"]}
    assert runs["demo-2222"]["is_current"] and not runs["demo-1111"]["is_current"]
    assert runs["demo-1111"]["metrics"]["val.miou"] == 40.0
    outputs = {output["directory"]: output for output in told["outputs"]}
    cues = outputs[CUES_KEY.directory]
    assert (cues["parts"], cues["used_by"]) == (1, ["demo-1111", "demo-2222"])
    assert cues["bytes"] == sum(store.sizes(CUES_KEY.directory).values())
    assert cues["manifests"][0]["rows"] == {"ok": 2, "skipped": 0, "error": 1}


def test_explain_tells_programs_of_an_image_and_of_a_table(store: Store) -> None:
    told = document("explain", store.url, "sub/two")
    assert (told["image"], told["run"], told["tags"]) == ("sub/two", "demo-2222", ["cat"])
    rows = {row["title"]: row["status"] for row in told["rows"]}
    assert rows["cues_phase0"] == "ok"
    assert sum(area["share"] for area in told["areas"]) <= 1
    table = document("explain", store.url, CUES_KEY.directory)
    assert table["directory"] == CUES_KEY.directory and table["decided_by"]["seed"] == 3
    assert table["used_by"] == ["demo-1111", "demo-2222"] and table["finished"]


def test_diff_tells_programs_values_and_not_their_text(store: Store, tmp_path: Path) -> None:
    relabel(store, "demo-2222", "sub/two", ROUGH)
    relabel(store, "demo-2222", "four", None)
    out = tmp_path / "diff.html"
    told = document("diff", store.url, "demo-1111", "demo-2222", "--out", out)
    assert out.exists()
    assert told["settings"] == [{"key": "cues.gamma", "first": 0.4, "second": 0.3}]
    assert told["corpus"] == []
    labels = told["labels"]
    assert (labels["run"], labels["images"], labels["images_changed"]) == ("demo-1111", 5, 2)
    assert (labels["pixels"], labels["pixels_changed"]) == (24, 9)
    assert [image["image_id"] for image in labels["most"]] == ["four", "sub/two"]
    record = store.read_json("runs/demo-1111/run.json")
    record["steps"] = record["steps"][:1]
    store.write_json("runs/demo-1111/run.json", record)
    told = document("diff", store.url, "demo-1111", "demo-2222")
    assert told["labels"] is None and "ended with its cues" in told["note"]


def test_history_and_verify_tell_programs_the_same(store: Store) -> None:
    dcsp("publish", store.url, "demo-1111")
    add_event(store, Event("published", "demo-2222", "relabel", "demo-1111"))  # and was killed
    told = document("history", store.url)
    assert told["current"] == "demo-1111" and told["not_carried_out"] == [1]
    assert [event["run"] for event in told["events"]] == ["demo-1111", "demo-2222"]
    whole = document("verify", store.url)
    assert (whole["problems"], whole["parts"]) == ([], 11)
    store.write_bytes("CURRENT", b"gone\n")
    broken = document("verify", store.url, code=1)
    assert "CURRENT names a run" in broken["problems"][0]
