"""Decoding in a process of its own, which may crash, hang or eat memory and costs its image alone.

:func:`check_images` and :func:`decode_levels` do to several files what functions of
:mod:`dcsp.images.decode` do to one. Where the decoder dies of them, each is decoded alone, and so
the one is known that no decoder survives. All threads of a process share one decoder.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dcsp.errors import ImageError
from dcsp.images.decode import MAX_PIXELS
from dcsp.images.decoder_process import OUT_OF_MEMORY, READY

CRASH, TOO_SLOW, TOO_MUCH_MEMORY = "decoder_crash", "too_slow", "too_much_memory"
"""Reasons of images that a decoder died of."""
_DEATHS = 2
"""Decoders that die of an image alone before it is refused: a machine may kill one by mistake."""
_STARTS = 3
"""Attempts at starting the process that decodes."""


def check_images(
    files: Sequence[bytes], max_pixels: int = MAX_PIXELS
) -> list[tuple[int, int] | ImageError]:
    """See of images whether they can be decoded, and how large they are.

    Args:
        files: Whole files, in one go: their answers come together.
        max_pixels: As of :func:`dcsp.images.decode.check_image`.

    Returns:
        (height, width) of each in pixels, or the error of that function, also with the reason
        ``decoder_crash``, ``too_slow`` or ``too_much_memory``.

    Raises:
        RuntimeError: The process that decodes does not start.
    """
    found = _DECODER.ask(files, max_pixels)
    return [
        answer if isinstance(answer, ImageError) else (answer["size"][0], answer["size"][1])
        for answer, _ in found
    ]


def decode_levels(
    files: Sequence[bytes], sizes: Sequence[tuple[int, int]], max_pixels: int
) -> list[NDArray[np.uint8] | ImageError]:
    """The pixels of palette or 8-bit grey images.

    Args:
        files: Whole files, in one go.
        sizes: (height, width) that each must have.
        max_pixels: None has more.

    Returns:
        HW uint8, read-only, of each, or the error of :func:`dcsp.images.decode.decode_levels`, also
        with the reasons of :func:`check_images`.

    Raises:
        RuntimeError: The process that decodes does not start.
    """
    found = _DECODER.ask(files, max_pixels, sizes)
    return [
        answer if isinstance(answer, ImageError) else np.frombuffer(body, np.uint8).reshape(size)
        for (answer, body), size in zip(found, sizes, strict=True)
    ]


Answer = tuple[dict[str, Any] | ImageError, bytes]
"""What a decoder says of a file, and the bytes that follow."""


class _Decoder:
    """A decoder and the process that forks it anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forker: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._link: socket.socket | None = None
        self._answers: BinaryIO | None = None

    def ask(
        self,
        files: Sequence[bytes],
        max_pixels: int,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Answer]:
        """What a decoder says of each file."""
        if not files:
            return []
        with self._lock:
            if self._link is None:
                self._renew()
            found = self._exchange(files, max_pixels, sizes)
            if found is not None:
                return found
            self._renew()
            return [
                self._alone(file, max_pixels, sizes and sizes[number : number + 1])
                for number, file in enumerate(files)
            ]

    def _alone(
        self, file: bytes, max_pixels: int, sizes: Sequence[tuple[int, int]] | None
    ) -> Answer:
        for _ in range(_DEATHS):
            found = self._exchange([file], max_pixels, sizes)
            if found is not None:
                return found[0]
            ended = self._renew()
        return _refusal(ended), b""

    def _exchange(
        self, files: Sequence[bytes], max_pixels: int, sizes: Sequence[tuple[int, int]] | None
    ) -> list[Answer] | None:
        """Ask, and wait for the answers; None where the decoder died of it."""
        assert self._link and self._answers
        lengths = [len(file) for file in files]
        request = {"lengths": lengths, "pixels": max_pixels, "sizes": sizes}
        try:
            self._link.sendall(json.dumps(request).encode() + b"\n")
            for file in files:
                self._link.sendall(file)
            line = self._answers.readline()
            answers = json.loads(line) if line.endswith(b"\n") else []
            bodies = [self._answers.read(answer.get("bytes", 0)) for answer in answers]
        except (BrokenPipeError, ConnectionResetError):
            return None
        except BaseException:  # an answer nobody waited for must not be taken for the next one
            self._hang_up()
            raise
        wanted = sum(answer.get("bytes", 0) for answer in answers)
        if len(answers) < len(files) or sum(map(len, bodies)) < wanted:
            return None
        return [(_said(answer), body) for answer, body in zip(answers, bodies, strict=True)]

    def _renew(self) -> int:
        """A fresh decoder; how the one before ended, as :mod:`subprocess` says it."""
        self._hang_up()
        for _ in range(_STARTS):
            control = self._control or self._launch()
            with suppress(OSError):
                control.sendall(b"+")
                ended, found, *_ = socket.recv_fds(control, 16, 1)
                link = socket.socket(fileno=found[0]) if found else None
                if link and link.recv(1) == READY:
                    self._link, self._answers = link, link.makefile("rb")
                    return int(ended)
            self.close()
        raise RuntimeError("the process that decodes images does not start")

    def close(self) -> None:
        """End both processes."""
        self._hang_up()
        if self._control:
            self._control.close()
            self._control = None
        if self._forker:
            self._forker.kill()
            self._forker.wait()
            self._forker = None

    def _hang_up(self) -> None:
        if self._link and self._answers:
            self._answers.close()
            self._link.close()
        self._link = None

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with theirs:
            self._forker = subprocess.Popen(
                [sys.executable, "-P", "-m", "dcsp.images.decoder_process", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control = ours
        return ours


_DECODER = _Decoder()


def _said(answer: dict[str, Any]) -> dict[str, Any] | ImageError:
    if "reason" not in answer:
        return answer
    return ImageError(answer["reason"], answer["message"])


def _refusal(ended: int) -> ImageError:
    """Why an image is refused that decoders died of."""
    if ended in (-signal.SIGPROF, -signal.SIGALRM):
        return ImageError(TOO_SLOW, "decoding it takes far longer than an image of its size does")
    if ended == OUT_OF_MEMORY:
        told = "decoding it takes far more memory than corpus.max_pixels lets an image take"
        return ImageError(TOO_MUCH_MEMORY, told)
    if ended == -signal.SIGKILL:
        told = "the process that decoded it was killed, as where a machine has no memory left"
        return ImageError(TOO_MUCH_MEMORY, told)
    how = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
    return ImageError(CRASH, f"the decoder crashes ({how})")
