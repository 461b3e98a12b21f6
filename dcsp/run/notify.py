"""Telling others what became of a run: a command of the user's, and a webhook.

Neither can fail a job: what goes wrong with them is one line. A notice holds no settings and no
text of libraries, in which secrets may be.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dcsp.config import NotifySettings
from dcsp.progress import say
from dcsp.text import shown

What = Literal["published", "gate_failed", "failed"]
PUBLISHED: What = "published"
REFUSED: What = "gate_failed"
FAILED: What = "failed"

COMMAND_SECONDS = 30.0
"""For a command to end."""
URL_SECONDS = 5.0
"""For an attempt of a webhook."""
ATTEMPTS = 2
"""Of a webhook."""
_LAST_WORDS = 1 << 14
"""Bytes at the end of what a command says in which the last line is looked for."""


@dataclass(frozen=True)
class Notice:
    """What others are told; also the JSON that they get.

    Attributes:
        event: ``published``; ``gate_failed``: the run has ended and is not published; ``failed``:
            the job has ended with an error.
        job: Name of the job.
        name: ``name`` of its config.
        store: Path or URL of the store.
        run: Id of the run; None of a job that failed.
        reasons: Failed gates, or the error, a sentence each.
        figures: What gates look at, by name; None where it is not known.
        report: Path or URL of the run's report; None of a job that failed.
    """

    event: What
    job: str
    name: str
    store: str
    run: str | None = None
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    report: str | None = None

    def to_bytes(self) -> bytes:
        """JSON in one line."""
        tree = asdict(self) | {"reasons": [shown(reason) for reason in self.reasons]}
        return f"{json.dumps(tree)}\n".encode()


def notify(settings: NotifySettings, notice: Notice) -> None:
    """Tell everybody that a config names; says in a line who could not be told, and why."""
    for name, target, tell in (("command", settings.command, _run), ("url", settings.url, _send)):
        try:
            if target is not None:
                tell(target, notice)
        except (OSError, ValueError) as error:
            say(f"notify.{name} could not be told of {notice.event}: {error}")


def _run(command: str, notice: Notice) -> None:
    """Run a command line to its end, and all that it started where it takes too long.

    Raises:
        OSError: It cannot be started, failed, or took too long.
        ValueError: It holds a null character.
    """
    told = {"EVENT": notice.event, "STORE": notice.store, "RUN": notice.run or ""}
    told["REPORT"] = notice.report or ""
    environment = {f"DCSP_{key}": shown(value) for key, value in told.items()}
    # Files in place of pipes: whatever it leaves running, or does not read, nobody waits for that.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as said:
        source.write(notice.to_bytes())
        source.seek(0)
        process = subprocess.Popen(
            shlex.split(command),
            stdin=source,
            stdout=said,
            stderr=said,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(f"it took more than {COMMAND_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            said.seek(max(0, said.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = said.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise OSError(f"it ended with {code}{f' and said {shown(last, 200)}' if last else ''}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another address is not what the user has named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _send(url: str, notice: Notice) -> None:
    """Send JSON to an address, once more where nobody took it.

    Raises:
        OSError: It was not taken; the words do not hold the address.
    """
    faults: list[str] = []

    def send() -> None:
        while len(faults) < ATTEMPTS and _post(url, notice.to_bytes(), faults):
            pass

    # A thread: neither a name that is looked up for ever nor an answer that drips ends by itself.
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(ATTEMPTS * URL_SECONDS)
    if thread.is_alive():
        raise OSError(f"no answer came within {ATTEMPTS * URL_SECONDS:g} s")
    if faults:
        raise OSError(faults[-1])


def _post(url: str, data: bytes, faults: list[str]) -> bool:
    """Send once, and note why that failed; returns whether another try may help."""
    head = {"Content-Type": "application/json", "User-Agent": "dcsp"}
    request = urllib.request.Request(url, data, head)
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=URL_SECONDS):
            faults.clear()
        return False
    except urllib.error.HTTPError as error:
        error.close()
        faults.append(f"the server answered {error.code}")
        return error.code >= 500 or error.code == 429
    except (OSError, http.client.HTTPException, ValueError) as error:  # of names no host can have
        reason = getattr(error, "reason", error)  # of a URLError: what was wrong below
        faults.append(f"{reason}" or type(error).__name__)
        return True
