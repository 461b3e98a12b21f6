"""The process that decodes what strangers wrote; :mod:`dcsp.images.isolated` starts and asks it.

It never decodes itself: it forks a decoder for each byte that its parent sends, whenever the one
before has died. A fork takes 5 ms, where Python and its libraries take 300.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from PIL import Image

from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_levels

READY = b"+"
"""What a decoder says first."""
OUT_OF_MEMORY = 3
"""Exit code of a decoder that asked for more memory than it may have."""
_SECONDS, _SECONDS_A_PIXEL, _SECONDS_A_BYTE = 2.0, 4e-6, 1e-6
"""CPU time that an image may take: the slowest decoder (JPEG 2000) takes 1 µs a pixel."""
_STALL = 5.0
"""Times as long may pass on the clock: other processes want the CPUs as well."""
_MEMORY, _BYTES_A_PIXEL = 2**30, 12
"""Bytes that a decoder may hold beside what it holds at its start, the latter for each pixel of the
limit: what :data:`dcsp.images.decode.MAX_PIXELS` lets pass takes up to 10."""
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Fork a decoder for each byte that comes, and send its socket; end with the parent."""
    control = socket.socket(fileno=int(sys.argv[1]))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal: the parent ends us
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGALRM, signal.SIGPROF, signal.SIGCHLD):  # whatever was inherited
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    load_decoders()
    parent, decoder = os.getpid(), 0
    while control.recv(1):
        ended = _end(decoder)
        ours, theirs = socket.socketpair()
        decoder = os.fork()
        if not decoder:
            control.close()
            theirs.close()
            os.dup2(nowhere, sys.stderr.fileno())
            _stand_alone(parent)
            _decode_all(ours)
        ours.close()
        socket.send_fds(control, [str(ended).encode()], [theirs.fileno()])
        theirs.close()
    _end(decoder)


def load_decoders() -> None:
    """Import all that decoding will need, some of it at the first image of a kind.

    Else every decoder would import it anew, in the time that its image may take: pandas, which
    pyarrow looks for, took two seconds where nothing had compiled it, and all masks were refused.
    """
    dot = io.BytesIO()
    Image.new("L", (1, 1)).save(dot, "PNG")
    decode_levels(dot.getvalue(), (1, 1))
    check_image(dot.getvalue(), 1, lambda _: None)


def _end(decoder: int) -> int:
    """End a decoder that has not ended; its exit code, or the signal that killed it below 0."""
    if not decoder:
        return 0
    os.kill(decoder, signal.SIGKILL)  # nothing to one that has ended
    return os.waitstatus_to_exitcode(os.waitpid(decoder, 0)[1])


def _stand_alone(parent: int) -> None:
    """Die with the parent, be the first to die where memory is short, leave no core file."""
    with suppress(AttributeError, OSError):  # Linux alone has it; elsewhere the clock ends us
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode_all(link: socket.socket) -> NoReturn:
    """Say that it is there, and answer what is asked until nobody asks any more."""
    try:
        link.sendall(READY)
        stream = link.makefile("rb")
        while line := stream.readline():
            request = json.loads(line)
            files = [stream.read(length) for length in request["lengths"]]
            sizes = request["sizes"] or [None] * len(files)
            _limit_memory(request["pixels"])
            found = [
                _answer(file, request["pixels"], size)
                for file, size in zip(files, sizes, strict=True)
            ]
            link.sendall(json.dumps([answer for answer, _ in found]).encode() + b"\n")
            for _, body in found:
                link.sendall(body)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except OSError:  # the parent has gone
        os._exit(1)
    os._exit(0)


def _answer(file: bytes, pixels: int, size: tuple[int, int] | None) -> tuple[dict[str, Any], bytes]:
    """What a decoder makes of a file, and the bytes that follow: levels, where a size is given."""
    allowed = _SECONDS + _SECONDS_A_BYTE * len(file)

    def allow(pixels: int) -> None:
        seconds = allowed + _SECONDS_A_PIXEL * pixels
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, _STALL * seconds)

    allow(0)
    try:
        if size is None:
            return {"size": check_image(file, pixels, allow)}, b""
        allow(size[0] * size[1])
        levels = decode_levels(file, (size[0], size[1]))
        return {"bytes": levels.nbytes}, levels.tobytes()
    except ImageError as error:
        return {"reason": error.reason, "message": str(error)}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


_limited: tuple[int, int] = (0, 0)


def _limit_memory(pixels: int) -> None:
    """Of data, not of addresses: threads reserve many of these and use few."""
    global _limited
    if _limited[0] == pixels:
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    held = _limited[1] or _held()
    wanted = held + _MEMORY + _BYTES_A_PIXEL * pixels
    wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with suppress(ValueError, OSError):  # a system without that limit
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))
    _limited = (pixels, held)


def _held() -> int:
    """Bytes of data of this process."""
    with suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()
    return 0


if __name__ == "__main__":
    main()
