"""What becomes of a run that has ended: gates, exit codes, kills, rollbacks, and who is told."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.errors import HeldBackError, StoreError
from dcsp.inspection.verify import verify_store
from dcsp.run.history import History, read_history
from dcsp.run.publishing import roll_back
from dcsp.store.store import Store
from dcsp.tables.layout import current_run
from jobs import compare, relabel
from tests.jobs.running import REPOSITORY, Run, call, states
from tests.threads import torch_threads

STRICT = "gates.min_miou=99.5"
MORE = "report.gallery=3"
"""A setting of which evaluation and report alone depend: another run within a second."""


@pytest.fixture(scope="module")
def first(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny run by the executor of this process, published."""
    store = tmp_path_factory.mktemp("published") / "store"
    with torch_threads(1):
        relabel.main(["--config", str(config_file), f"store={store}", "cluster.executor=here"])
    return Run(store, config_file, "", "")


@pytest.fixture
def run(first: Run, tmp_path: Path) -> Run:
    """A copy that a test may change."""
    shutil.copytree(first.store, tmp_path / "store")
    return replace(first, store=tmp_path / "store")


def night(run: Run, *overrides: str) -> None:
    """Submit the run's config with other settings."""
    told = ["--config", str(run.config_file), f"store={run.store}", "cluster.executor=here"]
    relabel.main([*told, *overrides])


def history(run: Run) -> History:
    return read_history(Store(run.store))


def events(run: Run) -> list[tuple[str, str, str, str | None]]:
    return [(e.kind, e.run, e.by, e.before) for e in history(run).events]


def changed(run: Run, before: dict[str, tuple[int, int]]) -> set[str]:
    """At the top of the store, what holds files that were written since."""
    after = states(run.store)
    return {name.partition("/")[0] for name in after if after[name] != before.get(name)}


def dcsp(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.output


def test_without_gates_a_run_is_published_as_ever(first: Run) -> None:
    assert events(first) == [("published", first.run_id, "relabel", None)]
    assert verify_store(Store(first.store)).problems == []


def test_a_failed_gate_keeps_the_published_run_and_says_why(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    old = run.run_id
    with pytest.raises(HeldBackError, match="fails 2 gates") as refused:
        night(run, MORE, STRICT, "gates.min_tag_consistency=1", "gates.max_failed_share=0.5")
    said = capsys.readouterr()
    held = history(run).events[-1]
    assert run.run_id == old and held.run != old and held.kind == "held back"
    assert f"{old} stays published" in str(refused.value) and held.run in str(refused.value)
    assert "gates.min_miou, gates.min_tag_consistency" in str(refused.value)
    gates = [line for line in said.err.splitlines() if line.startswith("gate: ")]
    assert [f"gate: {reason}" for reason in held.reasons] == gates and len(gates) == 2
    miou = json.loads((run.store / "runs" / held.run / "metrics.json").read_text())["val"]
    assert gates[0] == (
        f"gate: miou is {miou['miou_published']:.2f}, less than the 99.50 required (gates.min_miou)"
    )
    assert said.out == f"report: {run.store}/runs/{held.run}/report/index.html\n"


def test_submitted_again_a_run_fails_again_or_is_published_and_computes_nothing(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HeldBackError):
        night(run, MORE, STRICT)
    held, before = history(run).events[-1].run, states(run.store)
    for _ in range(2):
        with pytest.raises(HeldBackError):
            night(run, MORE, STRICT)
        assert "nothing to do" in capsys.readouterr().err
    assert changed(run, before) == set(), "the same is not written down again"
    with pytest.raises(HeldBackError):
        night(run, MORE, "gates.min_miou=99.4")
    assert changed(run, before) == {"history"}
    night(run, MORE, "gates.min_miou=0.01")
    assert "nothing to do" in capsys.readouterr().err
    assert changed(run, before) == {"history", "CURRENT"} and run.run_id == held
    night(run, MORE, STRICT)
    assert run.run_id == held, "what is published is not judged again"
    assert f"run {held} is published" in capsys.readouterr().err


def test_a_gate_that_fails_ends_the_process_with_3(run: Run) -> None:
    where = ["--config", run.config_file, f"store={run.store}", "cluster.executor=here"]
    for job in ("relabel.py", "evaluate.py"):
        done = call(job, *where, MORE, STRICT)
        *_, gate, error = done.stderr.splitlines()
        assert done.returncode == 3 and gate.startswith("gate: miou is ")
        assert error.startswith("error: The run ") and "fails 1 gate (gates.min_miou)" in error
    assert not (run.store / "LEASE").exists()


def test_gates_can_be_tried_and_publishing_left_to_a_person(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    old = run.run_id
    night(run, MORE, STRICT, "publish=never")
    said = capsys.readouterr().err
    assert run.run_id == old and len(events(run)) == 1 and "gate: miou is" in said
    new = next(name.name for name in (run.store / "runs").iterdir() if name.name != old)
    assert f"`dcsp publish {run.store} {new}` publishes it" in said
    night(run, MORE, STRICT, "publish=always")
    assert run.run_id == new and "gate: miou is" in capsys.readouterr().err
    assert history(run).events[-1].reasons[0].startswith("miou is")


def test_what_was_rolled_back_is_not_published_again_by_its_job(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    old = run.run_id
    night(run, MORE)
    new = run.run_id
    assert dcsp("rollback", run.store) == f"published: {old}, before that {new}\n"
    for policy in ("gated", "always"):
        with pytest.raises(HeldBackError, match=rf"The run {new} was withdrawn by dcsp rollback"):
            night(run, MORE, f"publish={policy}")
    assert run.run_id == old and "nothing to do" in capsys.readouterr().err
    told = dcsp("history", run.store)
    assert [line.split()[1] for line in told.splitlines()[2:6]] == [
        "published",
        "published",
        "rolled",
        "held",
    ]
    assert "it was withdrawn by dcsp rollback at" in told and f"published now: {old}" in told
    night(run)  # the job of what is published
    assert run.run_id == old
    dcsp("publish", run.store, new)
    night(run, MORE)
    assert run.run_id == new and not history(run).withdrawn


class Killed(BaseException):
    """What SIGKILL is to a test: nothing of the job runs after it, but for the lease's end."""


def test_killed_between_any_two_writes_the_state_is_truthful_and_the_job_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, write = run.run_id, Store.write_bytes
    for gates in (["gates.min_miou=0"], [STRICT]):
        for dies_at in range(20):
            place = tmp_path / f"{gates[0]}-{dies_at}"
            shutil.copytree(run.store, place)
            one, written = replace(run, store=place), list[str]()

            def dying(
                self: Store,
                name: str,
                data: bytes,
                written: list[str] = written,
                dies_at: int = dies_at,
            ) -> None:
                if len(written) == dies_at:
                    raise Killed
                written.append(name)
                write(self, name, data)

            monkeypatch.setattr(Store, "write_bytes", dying)
            try:
                night(one, MORE, *gates)
            except Killed:
                assert current_run(Store(place)) == old
                assert all(e.run == old for e in history(one).events[: len(events(run))])
            except HeldBackError:
                break
            else:
                break
            finally:
                monkeypatch.setattr(Store, "write_bytes", write)
            found = history(one)
            assert found.earlier == [] and not found.withdrawn and found.current == old
            with pytest.raises(StoreError, match="no run before"):
                roll_back(Store(place), None, lambda: None)
            if gates == [STRICT]:
                with pytest.raises(HeldBackError):
                    night(one, MORE, *gates)
            else:
                night(one, MORE, *gates)
                assert one.run_id != old and history(one).earlier == [old]
            assert verify_store(Store(place)).problems == []
        assert dies_at == (5 if gates != [STRICT] else 4), "run, metrics, report, event, pointer"


def test_a_comparison_neither_publishes_nor_is_gated(run: Run) -> None:
    before = states(run.store)
    told = ["--config", str(run.config_file), f"store={run.store}", "cluster.executor=here"]
    compare.main([*told, STRICT, "--grid", "report.gallery=2,3"])
    assert changed(run, before) == {"comparisons", "runs"} and len(events(run)) == 1


# --- who is told ----------------------------------------------------------------------------------


@pytest.fixture
def teller(tmp_path: Path) -> tuple[str, Callable[[], list[dict[str, Any]]]]:
    """A command that writes events down, and what it has written."""
    script, told = tmp_path / "tell.py", tmp_path / "told"
    script.write_text(f"import sys\nopen({str(told)!r}, 'a').write(sys.stdin.read())\n")

    def read() -> list[dict[str, Any]]:
        lines = told.read_text().splitlines() if told.exists() else []
        told.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return shlex.join([sys.executable, str(script)]), read


def test_what_becomes_of_a_run_is_told(
    run: Run, teller: tuple[str, Callable[[], list[dict[str, Any]]]]
) -> None:
    command, told = teller
    with pytest.raises(HeldBackError):
        night(run, MORE, STRICT, f"notify.command={command}")
    (event,) = told()
    held = history(run).events[-1]
    miou = event["figures"].pop("miou")
    assert 0 <= miou < 99.5 and event.pop("figures")["failed_share"] == 0
    assert event == {
        "event": "gate_failed",
        "job": "relabel",
        "name": "tiny",
        "store": str(run.store),
        "run": held.run,
        "reasons": list(held.reasons),
        "report": f"{run.store}/runs/{held.run}/report/index.html",
    }
    night(run, MORE, f"notify.command={command}")
    (event,) = told()
    assert (event["event"], event["run"], event["reasons"]) == ("published", held.run, [])
    night(run, MORE, f"notify.command={command}")
    assert told() == [], "nothing was published"


def test_who_is_told_is_written_down_nowhere(
    run: Run, capfd: pytest.CaptureFixture[str], teller: tuple[str, Callable[[], object]]
) -> None:
    command, _ = teller
    night(
        run,
        MORE,
        f"notify.command={command} --token s3cr3t",
        "notify.url=http://127.0.0.1:9/s3cr3t",
    )
    said = capfd.readouterr()
    assert "notify.url could not be told of published" in said.err
    assert "s3cr3t" not in said.out + said.err
    for file in run.store.rglob("*"):
        assert not file.is_file() or b"s3cr3t" not in file.read_bytes(), file


JOB = """
import os, signal, sys, time
from dcsp.config.file import load_config
from dcsp.errors import CorpusError, LostClusterError
from dcsp.store.store import Store
from jobs import _ending
from jobs._lease import hold
from jobs._main import run_job

def fault(): raise ValueError("s3cr3t")
def mistake(): raise CorpusError("The disk is gone: mount it.")
def lost(): raise LostClusterError("The head is gone: start it.")
def signalled(): os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
def from_a_thread(): _ending.end("error: The head is gone: start it.", 1)

def main(arguments):
    config = load_config(arguments[0], arguments[2:])
    with hold(Store(config.store), "relabel", config):
        globals()[arguments[1]]()

run_job(main)
"""


@pytest.mark.parametrize(
    ("how", "code", "reasons"),
    [
        ("mistake", 2, ["The disk is gone: mount it."]),
        ("fault", 1, ["a fault (ValueError): its log has the traceback"]),
        ("lost", 1, ["The head is gone: start it."]),
        ("from_a_thread", 1, ["The head is gone: start it."]),
        ("signalled", 143, None),
    ],
)
def test_a_job_that_an_error_ends_is_told(
    config_file: Path,
    tmp_path: Path,
    teller: tuple[str, Callable[[], list[dict[str, Any]]]],
    how: str,
    code: int,
    reasons: list[str] | None,
) -> None:
    command, told = teller
    settings = [f"store={tmp_path / 'store'}", f"notify.command={command}"]
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(config_file), how, *settings],
        cwd=REPOSITORY,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    events = told()
    assert [event["reasons"] for event in events] == ([] if reasons is None else [reasons])
    for event in events:
        assert (event["event"], event["job"], event["run"]) == ("failed", "relabel", None)
        assert event["store"] == str(tmp_path / "store")
    assert not (tmp_path / "store" / "LEASE").exists()
