"""An erased image is nowhere in the store, comes back by no ingest, and all else stays true."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.errors import StoreError, TrainingError
from dcsp.inspection.verify import verify_store
from dcsp.run.record import load_run
from dcsp.store import sweep
from dcsp.store.store import Store
from dcsp.tables.erased import load_erased
from dcsp.tables.layout import current_run, rejected_file, report_file, stage_directories
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank
from dcsp.upkeep import erasure
from dcsp.upkeep.erasure import erase
from jobs._chain import Chain
from tests.corpus.shelf import ingest, shelf
from tests.threads import torch_threads
from tests.upkeep.conftest import Nights, night

GONE = "photo_a"
"""In a part of both nights."""
PNG = "png"


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def nobody() -> None:
    """Nobody takes the lease."""


def dcsp(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def mentions(store: Store, image_id: str, content: bytes) -> list[str]:
    """Files that hold an id, the image's bytes, or a page's picture under its name."""
    found = []
    for name in store.files():
        data = store.read_bytes(name)
        if name.endswith(".parquet"):
            rows = pq.read_table(io.BytesIO(data)).to_pylist()
            told = [value for row in rows for value in row.values()]
            holds = image_id in told or content in told
            holds |= any(f"/{image_id}.{PNG}" in v for v in told if isinstance(v, str))
        elif name.endswith(".html"):
            holds = f"<h3>{image_id}</h3>".encode() in data or f' of {image_id}"'.encode() in data
        else:
            holds = f'"{image_id}"'.encode() in data or f"/{image_id}.{PNG}".encode() in data
        holds |= content in data or base64.b64encode(content) in data
        if holds:
            found.append(name)
    return found


def content_of(nights: Nights, image_id: str) -> bytes:
    return Path(nights.configs[0].corpus.root or "", f"{image_id}.{PNG}").read_bytes()


def whole(store: Store) -> list[str]:
    return verify_store(store).problems


def labels(store: Store, run_id: str, out: Path) -> set[str]:
    dcsp("export", store.url, out, run_id)
    return {path.stem for path in out.glob("*.png")}


def test_an_image_and_all_that_was_made_of_it_is_gone_and_nothing_else(
    nights: Nights, tmp_path: Path
) -> None:
    store, content = nights.store, content_of(nights, GONE)
    plans = [load_run(store, run_id)[1].run_id for run_id in nights.runs]
    before = {name: store.read_bytes(name) for name in store.files()}
    kinds = {name.split("/")[0] for name in mentions(store, GONE, content)}
    assert kinds >= {"corpus", "cues", "predictions", "saliency", "runs"}
    told = dcsp("erase", store.url, GONE)
    assert "networks keep what they learned" in told
    assert mentions(store, GONE, content) == []
    assert whole(store) == []
    assert [load_run(store, run_id)[1].run_id for run_id in nights.runs] == plans
    assert current_run(store) == nights.runs[1]
    assert dcsp("publish", store.url, nights.runs[0]), "roll back"
    assert labels(store, nights.runs[0], tmp_path / "masks") == {
        f"photo_{name}" for name in "bcdeyz"
    }
    dcsp("report", store.url, nights.runs[0], "--rebuild")
    sizes = {name: seen.bytes for name, seen in sweep.look(store).items()}
    touched = {name for name, data in before.items() if sizes.get(name) != len(data)}
    checkpoints = {name for name in touched if name.startswith("checkpoints/")}
    assert checkpoints == set() and set(before) - set(store.files()) <= {
        name for name in before if name.startswith("corpus/batches/")
    }


def test_the_next_night_leaves_it_out_and_says_so(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    store, content = nights.store, content_of(nights, GONE)
    dcsp("erase", store.url, GONE)
    with torch_threads(1):
        run_id = night(nights.configs[1])
    told = capsys.readouterr()
    assert "1 listed image left out: erased before" in told.out + told.err
    assert run_id not in nights.runs, "the corpus is another"
    assert mentions(store, GONE, content) == []
    assert whole(store) == []
    snapshot = Chain(nights.configs[1]).ingest()
    assert (sum(part.live for part in snapshot.parts), snapshot.rejected) == (6, 1)


def test_the_same_file_under_another_id_is_erased_and_stays_out(nights: Nights) -> None:
    root = Path(nights.configs[1].corpus.root or "")
    extra, table = root / "photo_g.png", root / "tags.csv"
    old = table.read_text()
    extra.write_bytes(content_of(nights, GONE))
    table.write_text(f"{old}\nphoto_g.png,cat,train")
    try:
        Chain(nights.configs[1]).ingest()
        assert mentions(nights.store, "photo_g", b"no bytes are these")
        assert "1 of the erased images have other ids" in dcsp("erase", nights.store.url, GONE)
        assert mentions(nights.store, GONE, content_of(nights, GONE)) == []
        snapshot = Chain(nights.configs[1]).ingest()
        assert (sum(part.live for part in snapshot.parts), snapshot.rejected) == (6, 2)
        assert mentions(nights.store, "photo_g", b"no bytes are these") == []
        assert whole(nights.store) == []
        table.write_text(f"{old}\nphoto_g.png,cat,train\nphoto_h.png,cat,train")
        extra.rename(root / "photo_h.png")
        Chain(nights.configs[1]).ingest()
        assert "an image like it was erased" in dcsp("rejected", nights.store.url)
    finally:
        extra.unlink(missing_ok=True)
        (root / "photo_h.png").unlink(missing_ok=True)
        table.write_text(old)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("runs/.DS_Store", b"of a file manager"),
        ("corpus/notes.json", b"{}"),
        ("analysis/2026/mine.parquet", parquet(x=[1])),
        ("corpus/shards/" + 20 * "a" + ".parquet", parquet(image_id=["photo_a"])),
    ],
    ids=["in runs", "in the corpus", "a table", "an earlier version's rows of a shard"],
)
def test_files_of_others_do_not_stop_it(nights: Nights, name: str, content: bytes) -> None:
    nights.store.write_bytes(name, content)
    dcsp("erase", nights.store.url, GONE)
    assert not load_erased(nights.store).is_unfinished
    assert mentions(nights.store, GONE, content_of(nights, GONE)) == []
    assert nights.store.exists(name) != name.startswith("corpus/shards/")


def test_uploads_that_an_account_may_not_see_do_not_stop_it(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Store) -> None:
        raise StoreError("Cannot list the uploads of the store (Access Denied).")

    monkeypatch.setattr(sweep, "uploads", refuse)
    told = dcsp("erase", nights.store.url, GONE)
    assert "uploads that did not end were left alone, and may hold an image: Cannot list" in told
    assert whole(nights.store) == []


def test_a_training_of_images_that_were_erased_since_says_so(nights: Nights) -> None:
    plan = load_run(nights.store, nights.runs[1])[1]
    fcan = plan.step("fcan").stage
    assert isinstance(fcan, TrainStage)
    dcsp("erase", nights.store.url, GONE)
    with pytest.raises(TrainingError, match=r"erased since: set retrain=every"):
        for piece in fcan.pieces(plan.snapshot.of(["train"]), Rank(), 0):
            fcan.read(nights.store, piece)


def test_a_table_of_a_part_with_an_erased_row_can_be_made_again(nights: Nights) -> None:
    dcsp("erase", nights.store.url, GONE)
    for directory in stage_directories(nights.store):
        if directory.startswith(("saliency/", "cues/", "predictions/")):
            for part in nights.store.parts(directory):
                nights.store.remove(f"{directory}/{part}.parquet")
    with torch_threads(1):
        night(nights.configs[1])
    assert mentions(nights.store, GONE, content_of(nights, GONE)) == []


def test_a_dead_row_is_erased_as_well(nights: Nights) -> None:
    erase(nights.store, ["photo_e"], nobody)
    assert mentions(nights.store, "photo_e", b"no bytes are these") == []
    assert whole(nights.store) == []


def test_tables_of_a_part_that_was_removed_are_erased_as_well(nights: Nights) -> None:
    store, content = nights.store, content_of(nights, GONE)
    for name in mentions(store, GONE, content):
        if name.startswith("corpus/parts/"):
            store.remove(name)
    assert any(name.startswith("saliency/") for name in mentions(store, GONE, content))
    erase(store, [GONE], nobody)
    assert mentions(store, GONE, content) == []


def test_an_image_that_was_rejected_is_told_of_no_more(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(bad=1)
    snapshot = ingest(store, source)
    erase(store, ["t0"], nobody)
    assert mentions(store, "t0", b"no image") == []
    (row,) = store.read_table(rejected_file(snapshot.fingerprint)).to_pylist()
    assert (row["image_id"], row["uri"], row["reason"]) == ("", "", "erased")
    assert snapshot.rejected == 1 and whole(store) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("nobody",), "has no image 'nobody' (1 of 1 ids"),
        ((GONE, "Photo_a"), "has no image 'Photo_a' (1 of 2 ids"),
        (("",), "has no image ''"),
        ((), "Nothing was erased from the store"),
    ],
)
def test_ids_of_no_image_change_nothing(nights: Nights, ids: tuple[str, ...], message: str) -> None:
    before = {name: nights.store.read_bytes(name) for name in nights.store.files()}
    with pytest.raises(StoreError) as caught:
        erase(nights.store, ids, nobody)
    assert message in str(caught.value)
    assert {name: nights.store.read_bytes(name) for name in nights.store.files()} == before


def test_erasing_twice_is_erasing_once(nights: Nights) -> None:
    dcsp("erase", nights.store.url, GONE)
    before = {name: nights.store.read_bytes(name) for name in nights.store.files()}
    assert "erased: 0 rows" in dcsp("erase", nights.store.url, GONE)
    assert "erased: 0 rows" in dcsp("erase", nights.store.url)
    assert {name: nights.store.read_bytes(name) for name in nights.store.files()} == before


class Killed(BaseException):
    """In the place of SIGKILL: nothing is tidied up after it."""


def killed_after(store: Store, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erase, and be killed at a write or a removal."""
    left = [writes]

    def count(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_bytes", count(Store.write_bytes))
        patch.setattr(erasure, "remove_files", count(erasure.remove_files))
        erase(store, [GONE], nobody)


def test_killed_anywhere_and_done_again_it_leaves_what_one_erasure_leaves(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Store(tmp_path / "good")
    origin = Path(nights.store.location(""))
    shutil.copytree(origin, good.location(""))
    erase(good, [GONE], nobody)
    expected = contents(good)
    writes = 0
    while True:
        place = tmp_path / f"killed-{writes}"
        shutil.copytree(origin, place)
        store = Store(place)
        try:
            killed_after(store, writes, monkeypatch)
        except Killed:
            if writes:
                assert any("`dcsp erase" in problem for problem in whole(store)), writes
                with pytest.raises(StoreError, match="submit the job again then"):
                    Chain(nights.configs[1].model_copy(update={"store": str(place)})).ingest()
                erase(store, [], nobody)
            else:
                erase(store, [GONE], nobody)
            assert contents(store) == expected, writes
            shutil.rmtree(place)
        else:
            break
        writes += 1 if writes < 3 else 8
    assert writes > 20


def contents(store: Store) -> dict[str, bytes]:
    """Name → bytes, wherever the store lies."""
    place = store.location("").encode()
    return {name: store.read_bytes(name).replace(place, b"STORE") for name in store.files()}


def test_another_job_keeps_it_out(nights: Nights) -> None:
    from dcsp.store.lease import Lease

    with Lease(nights.store, "relabel", "web"):
        assert "Another job (relabel of web" in dcsp("erase", nights.store.url, GONE, code=2)
        assert "Another job (relabel of web" in dcsp("gc", nights.store.url, "--delete", code=2)
    assert not load_erased(nights.store).ids


def test_it_works_in_a_bucket(nights: Nights, s3_store: Store, tmp_path: Path) -> None:
    for name in nights.store.files():
        s3_store.write_bytes(name, nights.store.read_bytes(name))
    content = content_of(nights, GONE)
    assert mentions(s3_store, GONE, content)
    dcsp("erase", s3_store.url, GONE)
    assert mentions(s3_store, GONE, content) == []
    assert whole(s3_store) == []


def test_sigterm_gives_the_lease_back(nights: Nights) -> None:
    script = (
        "import os, signal, sys\nfrom dcsp.upkeep import erasure\nfrom dcsp.cli import app\n"
        "def remove_files(*_): os.kill(os.getpid(), signal.SIGTERM)\n"
        "erasure.remove_files = remove_files\n"
        f"app(['erase', {nights.store.url!r}, {GONE!r}])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert ended.returncode == 143, ended.stderr
    assert not nights.store.exists("LEASE")
    assert "`dcsp erase" in whole(nights.store)[0]


def test_a_report_that_cannot_be_written_anew_is_told(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("The stage saliency has another fingerprint now: use another version.")

    monkeypatch.setattr(erasure, "load_run", refuse)
    told = dcsp("erase", nights.store.url, GONE)
    assert f"`dcsp report STORE {nights.runs[0]}` writes it anew" in told
    assert not nights.store.exists(report_file(nights.runs[0]))
