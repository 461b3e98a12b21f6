"""The command line, on a store made with the functions that jobs use."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dcsp.cli import app
from dcsp.inspection.inventory import find_output, find_run, flatten, open_store, outputs, runs
from dcsp.run.history import Event, add_event
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, catalogue_file, part_file, report_file
from dcsp.tables.schemas import RULES_SINCE
from tests.report.pages import Reader, assert_self_contained
from tests.store_fixture import CUES_KEY, LABELS, ROUGH, build_store

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(tmp_path / "store")


def dcsp(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def line(text: str, start: str) -> list[str]:
    """Words of the one line that starts so."""
    [found] = [line for line in text.splitlines() if line.strip().startswith(start)]
    return found.split()


def test_show_lists_runs_tables_and_checkpoints(store: Store) -> None:
    text = dcsp("show", store.url).output
    assert line(text, "demo-2222") == (
        ["demo-2222", "(published)", "2026-08-01T10:02:00Z", "51.50", "30.00", "32.00"]
    )
    assert line(text, "demo-1111")[-3:] == ["51.50", "40.00", "42.00"]
    assert line(text, CUES_KEY.directory)[1:5] == ["1", "2", "0", "1"]
    assert line(text, CUES_KEY.directory)[-2:] == ["2", "runs"]
    assert line(text, "checkpoints/")[1:3] == ["joint_phase0", "40"]


def test_home_is_expanded_in_every_path(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(store.url).parent
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    assert "demo-2222" in dcsp("show", "~/store").output
    store.write_bytes(report_file("demo-2222"), b"a page")
    dcsp("report", "~/store", "--out=~/a.html")
    dcsp("export", "~/store", "~/masks")
    assert {"a.html", "masks"} <= {path.name for path in home.iterdir()}
    assert not (home / "~").exists()
    assert "home folder that is not known" in dcsp("show", "~no one/store", code=2).output


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
        *(f"{title} of four" for title in ("image", "demo-1111")),
        *(f"{title} of sub/two" for title in ("image", "demo-1111", "demo-2222", "changed")),
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


def test_publish_moves_back_to_an_earlier_run_and_forward(store: Store) -> None:
    current = store.read_bytes("CURRENT")
    said = dcsp("publish", store.url, "demo-1111").output
    assert said == "published: demo-1111, before that demo-2222\n"
    assert store.read_bytes("CURRENT") == b"demo-1111\n"
    dcsp("publish", store.url, "demo-2222")
    assert store.read_bytes("CURRENT") == current
    dcsp("publish", store.url, "demo-2222")
    assert not store.exists("LEASE") and len(store.list("history")) == 2


@pytest.mark.parametrize("gone", ["figures", "manifest", "part", "network", "folder", "corpus"])
def test_a_run_of_which_something_is_gone_is_not_published(store: Store, gone: str) -> None:
    (predictions,) = {
        step["directory"]
        for step in store.read_json("runs/demo-1111/run.json")["steps"]
        if step["title"] == "predictions"
    }
    files = {
        "figures": "runs/demo-1111/metrics.json",
        "manifest": f"{predictions}/{next(n for n in store.list(predictions) if 'comp' in n)}",
        "part": part_file(predictions, "bb22"),
        "network": f"checkpoints/{store.list('checkpoints')[0]}/complete.json",
        "folder": predictions,
        "corpus": next(f"corpus/{n}" for n in store.list("corpus") if n.endswith(".json")),
    }
    store.remove(files[gone])
    said = dcsp("publish", store.url, "demo-1111", code=2).output
    assert len(said.splitlines()) == 1 and ("cannot be published" in said or gone == "corpus")
    assert store.read_bytes("CURRENT") == b"demo-2222\n" and store.list("history") == []


def test_rollback_goes_back_by_the_history_and_says_what_is_current(store: Store) -> None:
    told = dcsp("rollback", store.url, code=2).output
    assert "has no history of what was published before demo-2222" in told
    assert len(told.splitlines()) == 1 and "`dcsp publish STORE RUN`" in told
    empty = dcsp("history", store.url).output
    assert empty.startswith("history: none") and "demo-2222, which the history does not" in empty
    dcsp("publish", store.url, "demo-1111")
    assert dcsp("rollback", store.url).output == "published: demo-2222, before that demo-1111\n"
    assert "no run before demo-2222" in dcsp("rollback", store.url, code=2).output
    dcsp("publish", store.url, "demo-1111")
    assert "no run 'x'" in dcsp("rollback", store.url, "--to", "x", code=2).output
    dcsp("rollback", store.url, "--to", "demo-2")
    text = dcsp("history", store.url).output
    rows = [re.split(r"\s{2,}", row.strip()) for row in text.splitlines()[1:6]]
    assert rows[0] == ["when", "what", "run", "now", "by", "before", "why"]
    first, back = rows[1][1:], rows[2][1:]
    assert first == ["published", "demo-1111", "withdrawn", "dcsp publish", "demo-2222"]
    assert back[:5] == ["rolled back", "demo-2222", "published", "dcsp rollback", "demo-1111"]
    assert back[5:] == ["back from demo-1111"]
    assert text.endswith("\npublished now: demo-2222\n") and not store.exists("LEASE")


def test_history_tells_of_runs_that_are_gone_and_of_what_was_not_carried_out(store: Store) -> None:
    dcsp("publish", store.url, "demo-1111")
    held = Event("held back", "demo-3333", "relabel", "demo-1111", reasons=("a\x1b", "b"))
    add_event(store, held)
    add_event(store, Event("published", "demo-2222", "relabel", "demo-1111"))  # and was killed
    *_, told, killed, _, _ = dcsp("history", store.url).output.splitlines()
    assert "held back" in told and " gone " in told and told.endswith("a\\x1b; b")
    assert "not carried out" in killed and "demo-2222" in killed


def test_export_writes_masks_of_the_published_run(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    assert "4 masks" in dcsp("export", store.url, out).output
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert written == ["five.png", "four.png", "one.png", "sub/two.png"]
    with Image.open(out / "sub" / "two.png") as image:
        assert np.array_equal(np.asarray(image), LABELS)
    dcsp("export", store.url, out, "demo-1111", "--labels", "network")
    with Image.open(out / "one.png") as image:
        assert np.array_equal(np.asarray(image), ROUGH)


def test_export_of_cues_writes_the_training_images_alone(store: Store, tmp_path: Path) -> None:
    record = store.read_json("runs/demo-2222/run.json")
    record["config"]["corpus"] |= {
        "classes": ["cat"],
        "distractors": ["dog"],
        "distractors_are": "ignored",
    }
    store.write_json("runs/demo-2222/run.json", record)
    dcsp("export", store.url, tmp_path / "cues", "--labels", "cues")
    written = sorted(path.name for path in (tmp_path / "cues").rglob("*.png"))
    assert written == ["one.png", "two.png"]
    with Image.open(tmp_path / "cues" / "one.png") as image:
        assert np.array_equal(np.asarray(image), np.where(LABELS == 2, 255, LABELS))
    assert (
        "is not one of" in dcsp("export", store.url, tmp_path / "c", "--labels", "x", code=2).output
    )


def test_export_never_writes_among_other_files(store: Store, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(b"a photograph")
    refused = "holds files that dcsp export did not write"
    assert refused in dcsp("export", store.url, photos, code=2).output.replace("\n", " ")
    record = store.read_json("runs/demo-1111/run.json")
    record["config"]["corpus"] = {"root": str(photos)}
    store.write_json("runs/demo-1111/run.json", record)
    for out in (photos / "masks", Path(store.location("")) / "masks"):
        told = dcsp("export", store.url, out, "demo-1111", code=2).output.replace("\n", " ")
        assert "must not lie in one another" in told
    assert [path.name for path in photos.iterdir()] == ["one.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "{tmp}/nowhere"], "There is no store at"),
        (["diff", "{store}", "demo", "demo-1111"], "more than one run that starts with 'demo'"),
        (["diff", "{store}", "demo-1111", "x"], "no run 'x': name one of demo-1111, demo-2222"),
        (["explain", "{store}", "zz"], "no output 'zz': name one of"),
        (["export", "{store}", "{tmp}/out", "x"], "no run 'x'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    store: Store, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [a.format(store=store.url, tmp=tmp_path) for a in arguments]
    result = dcsp(*filled, code=2)
    assert message in result.output and "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_without_a_published_run_one_has_to_be_named(store: Store, tmp_path: Path) -> None:
    store.remove("CURRENT")
    result = dcsp("export", store.url, tmp_path / "out", code=2)
    assert "has no published run: name one of demo-1111, demo-2222" in result.output


def test_help_lists_every_command() -> None:
    text = dcsp("--help").output
    for command in ("show", "explain", "diff", "verify", "report", "export", "publish", "rollback"):
        assert command in text


def test_inventory_finds_runs_and_outputs(store: Store) -> None:
    assert [run.run_id for run in runs(store)] == ["demo-1111", "demo-2222"]
    assert find_run(store).run_id == "demo-2222"
    assert find_run(store, "demo-11").run_id == "demo-1111"
    assert find_output(store, CUES_KEY.directory).parts == 1
    assert [output.is_checkpoint for output in outputs(store)].count(True) == 1
    assert open_store(store.url).url == store.url


def test_flatten_gives_dotted_keys() -> None:
    tree = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None}
    assert flatten(tree) == {"a.b": 1, "a.c": {}, "d": [1, 2], "e": None}


def plan(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``dcsp plan``, which starts a job in a process of its own."""
    command = [sys.executable, "-m", "dcsp.cli", "plan", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_plan_lists_the_stages_of_a_config_and_computes_nothing(tmp_path: Path) -> None:
    config = REPOSITORY / "jobs" / "configs" / "voc12_vgg16.yaml"
    told = plan("--config", config, f"store={tmp_path / 'store'}", f"corpus.root={tmp_path}/none")
    assert (told.returncode, told.stderr) == (0, "")
    stages = ("saliency", "fcan", "cues_phase1", "predictions")
    assert all(stage in told.stdout for stage in stages)
    assert "none is not there" in told.stdout
    assert not (tmp_path / "store").exists()


def test_plan_of_a_wrong_setting_is_the_users_mistake() -> None:
    told = plan("--config", REPOSITORY / "jobs" / "configs" / "demo.yaml", "sede=1")
    assert told.returncode == 2
    assert told.stderr.startswith("error: ") and "unknown setting" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_plan_tells_its_options() -> None:
    told = plan("--help")
    assert told.returncode == 0
    assert "--no-probe" in told.stdout and "--price-per-gpu-hour" in told.stdout
