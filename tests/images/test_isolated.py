"""Images that a decoder dies of cost themselves alone, and little time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from dcsp.errors import ImageError
from dcsp.images import decode, isolated
from tests.images import broken_decoders
from tests.images.pictures import PHOTO, encode, smooth

GOOD = encode(Image.fromarray(PHOTO), "JPEG")
SIZE = PHOTO.shape[:2]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A decoder of this test alone, with what it is broken by."""
    monkeypatch.syspath_prepend(broken_decoders.install(tmp_path / "plugin"))
    monkeypatch.setattr(isolated, "_DECODER", isolated._Decoder())
    yield
    isolated._DECODER.close()


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def reasons(files: list[bytes]) -> list[str]:
    found = isolated.check_images(files)
    return [each.reason if isinstance(each, ImageError) else "ok" for each in found]


def test_answers_are_those_of_the_decoder_of_this_process() -> None:
    files = [GOOD, b"", GOOD[:300], b"no image", encode(smooth(3, 4), "GIF")]
    found = isolated.check_images(files)
    assert found[0] == SIZE and found[4] == (3, 4)
    for file, told in zip(files[1:4], found[1:4], strict=True):
        with pytest.raises(ImageError) as caught:
            decode.check_image(file)
        assert isinstance(told, ImageError)
        assert (told.reason, str(told)) == (caught.value.reason, str(caught.value))
    (told,) = isolated.check_images([GOOD], max_pixels=10)
    assert isinstance(told, ImageError) and told.reason == "oversized"
    assert isolated.check_images([]) == []


def test_levels_come_back_whole_or_say_why_not() -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    file = encode(Image.fromarray(ids), "PNG")
    found, other, none = isolated.decode_levels([file, file, b"x"], [(3, 4), (4, 3), (3, 4)], 10**6)
    np.testing.assert_array_equal(found, ids)
    assert isinstance(other, ImageError) and "pixels" in str(other)
    assert isinstance(none, ImageError) and none.reason == "unreadable"


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crashes", "decoder_crash"),
        ("hangs", "too_slow"),
        ("waits", "too_slow"),
        ("eats", "too_much_memory"),
    ],
)
def test_one_image_that_a_decoder_dies_of_costs_no_other(
    broken: None, way: str, reason: str
) -> None:
    bad, good = broken_decoders.image(way), broken_decoders.image()
    assert reasons([GOOD, good, bad, good, GOOD]) == ["ok", "ok", reason, "ok", "ok"]
    assert reasons([GOOD]) == ["ok"]


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_lone_image_is_blamed_for_the_second_decoder_only(
    broken: None, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """A machine may kill one by mistake."""
    ask, killed = isolated._DECODER._exchange, []

    def exchange(files: list[bytes], *how: Any) -> Any:
        if len(files) > 1:  # of several files the decoder dies at once, and each is asked alone
            return None
        if files == [GOOD] and len(killed) < deaths:
            killed.append(files)
            return None
        return ask(files, *how)

    monkeypatch.setattr(isolated._DECODER, "_exchange", exchange)
    found = reasons([GOOD, b""])
    assert found[1] == "empty" and (found[0] == "ok") == (deaths == 1)
    assert len(killed) == deaths


def test_a_hundred_images_that_crash_take_seconds(broken: None) -> None:
    files = [broken_decoders.image("crashes"), GOOD] * 100
    started = time.monotonic()
    assert reasons(files) == ["decoder_crash", "ok"] * 100
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("dies", ["decoder", "forker"])
def test_processes_that_others_kill_are_replaced(broken: None, dies: str) -> None:
    assert reasons([GOOD]) == ["ok"]
    forker, decoder = sorted(children(), key=lambda child: child.create_time())[-2:]
    lost = decoder if dies == "decoder" else forker
    lost.kill()
    psutil.wait_procs([decoder], timeout=10)
    assert reasons([GOOD, b""]) == ["ok", "empty"]


def test_threads_share_a_decoder(broken: None) -> None:
    found: list[list[str]] = []
    files = [GOOD, b"", broken_decoders.image("crashes")]
    threads = [threading.Thread(target=lambda: found.append(reasons(files))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["ok", "empty", "decoder_crash"]] * 8


def test_an_interrupted_question_leaves_no_answer_for_the_next(broken: None) -> None:
    assert reasons([GOOD]) == ["ok"]
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        reasons([broken_decoders.image("waits")])
    assert reasons([b""]) == ["empty"]


PARENT = """
import sys
from dcsp.images import isolated
print("begins", flush=True)
isolated.check_images([sys.stdin.buffer.read()])
"""


@pytest.mark.parametrize("way", ["hangs", "waits"])
def test_no_process_survives_a_parent_that_is_killed(tmp_path: Path, way: str) -> None:
    paths = [broken_decoders.install(tmp_path), *sys.path]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin and parent.stdout
    parent.stdin.write(broken_decoders.image(way))
    parent.stdin.close()
    parent.stdout.read(6)
    end = time.monotonic() + 60
    while len(seen := psutil.Process(parent.pid).children(recursive=True)) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)  # until it decodes
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(seen, timeout=5)
    assert not alive


def test_a_process_that_cannot_start_is_a_fault_of_the_machine(
    broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="does not start"):
        isolated.check_images([GOOD])


def test_nothing_is_left_for_decoders_to_import() -> None:
    """They are forked: each would import it anew, in the time that its image may take."""
    code = """
import io, sys
from PIL import Image
from dcsp.images.decode import _FORMATS, _LEVEL_FORMATS, check_image, decode_levels
from dcsp.images.decoder_process import load_decoders
load_decoders()
before = set(sys.modules)
for name in _FORMATS:
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, name)
    before |= {m for m in sys.modules if m.startswith("PIL.")}  # writing may import more
    check_image(file.getvalue(), 1000, lambda _: None)
for name in _LEVEL_FORMATS:
    file = io.BytesIO()
    Image.new("L", (9, 7)).save(file, name)
    decode_levels(file.getvalue(), (7, 9))
print(sorted(set(sys.modules) - before))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
