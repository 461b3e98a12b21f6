"""What holds for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.inspection.inventory import find_output, find_run, flatten, open_store, outputs, runs
from dcsp.store.store import Store
from dcsp.tables.layout import report_file
from tests.cli.running import dcsp
from tests.store_fixture import CUES_KEY


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
