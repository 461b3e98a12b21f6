"""Who is told what became of a run, by a real program and a real server; no fault reaches a job."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import psutil
import pytest

from dcsp.config import NotifySettings
from dcsp.run import notify as module
from dcsp.run.notify import Notice, notify
from tests.http_server import Server, response, serve
from tests.networks.test_fetch import write_certificate

NOTICE = Notice(
    "gate_failed",
    "relabel",
    "web",
    "s3://bucket/labels",
    run="web-1f2e",
    reasons=("changed_share is 0.34\x1b[2J", "https://me:secret@host/?token=secret"),
    figures={"miou": 61.25, "changed_share": None},
    report="s3://bucket/labels/runs/web-1f2e/report/index.html",
)


def python(folder: Path, script: str) -> str:
    """The command line of a program, in a folder whose name has a space."""
    file = folder / "with space" / "tell.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(script)
    return shlex.join([sys.executable, str(file)])


def test_a_command_gets_the_event_and_its_environment(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import json, os, pathlib, sys\n"
        "told = {k: v for k, v in os.environ.items() if k.startswith('DCSP_')}\n"
        f"pathlib.Path({str(tmp_path / 'told')!r}).write_text("
        "json.dumps([json.load(sys.stdin), told]))\n"
        "print('on standard output')\n"
    )
    notify(NotifySettings(command=python(tmp_path, script)), NOTICE)
    event, environment = json.loads((tmp_path / "told").read_text())
    assert event == {
        "event": "gate_failed",
        "job": "relabel",
        "name": "web",
        "store": "s3://bucket/labels",
        "run": "web-1f2e",
        "reasons": ["changed_share is 0.34\\x1b[2J", "https://…@host/?token=…"],
        "figures": {"miou": 61.25, "changed_share": None},
        "report": "s3://bucket/labels/runs/web-1f2e/report/index.html",
    }
    assert {key: environment[f"DCSP_{key.upper()}"] for key in ("event", "store", "run")} == {
        key: event[key] for key in ("event", "store", "run")
    }
    assert environment["DCSP_REPORT"] == event["report"]
    assert capfd.readouterr() == ("", ""), "what it says is not what the job prints"


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    command = python(
        tmp_path,
        f"import sys, pathlib\npathlib.Path({str(tmp_path / 'got')!r})"
        ".write_text(repr(sys.argv[1:]))",
    )
    notify(NotifySettings(command=f"{command} '$HOME' a;b '|' > x"), NOTICE)
    assert (tmp_path / "got").read_text() == repr(["$HOME", "a;b", "|", ">", "x"])


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "import sys; print('first'); sys.exit('no such channel\\x1b[2J')",
            "ended with 1 and said ",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
        ("raise SystemExit(3)", "it ended with 3\n"),
        (
            "import sys; sys.stdin.close(); sys.stdout.write('x' * 10**6); sys.exit(1)",
            "ended with 1",
        ),
    ],
)
def test_a_command_that_fails_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, told: str
) -> None:
    notify(NotifySettings(command=python(tmp_path, script)), NOTICE)
    said = capsys.readouterr().err
    assert said.startswith("notify.command could not be told of gate_failed: ") and told in said
    assert said.count("\n") == 1 and "\x1b" not in said and len(said) < 400


def test_a_command_that_is_not_there_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    notify(NotifySettings(command="/nowhere/tell --loud"), NOTICE)
    assert "could not be told of gate_failed: " in (said := capsys.readouterr().err)
    assert "No such file" in said and said.count("\n") == 1


def test_a_command_that_hangs_ends_with_all_it_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMAND_SECONDS", 1.5)
    script = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    notify(NotifySettings(command=python(tmp_path, script)), NOTICE)
    assert "it took more than 1.5 s" in capsys.readouterr().err
    pid = int((tmp_path / "child").read_text())
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    script = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
    )
    started = time.monotonic()
    notify(NotifySettings(command=python(tmp_path, script)), NOTICE)
    assert time.monotonic() - started < 20
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def hook(server: Server, path: str, *answers: bytes) -> tuple[str, list[bytes]]:
    """Read what is posted to a path, then give the answers in turn, the last for ever.

    Returns:
        The URL, and the bodies of the requests so far.
    """
    bodies: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        head, _, body = server.requests[-1].partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        assert found and head.startswith(b"POST ") and b"application/json" in head
        while len(body) < int(found[1]):
            body += connection.recv(4096)
        bodies.append(body)
        connection.sendall(answers[min(len(bodies), len(answers)) - 1])

    server.answers[path] = answer
    return server.url(path), bodies


def test_a_webhook_gets_the_event_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        url, bodies = hook(server, "/hook?token=x", response(b"ok"))
        notify(NotifySettings(url=url), NOTICE)
    assert bodies == [NOTICE.to_bytes()]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("status", "requests"),
    [("503 Busy", 2), ("429 Slow down", 2), ("404 Not Found", 1), ("401 Unauthorized", 1)],
)
def test_a_webhook_that_refuses_is_a_line_without_its_address(
    capsys: pytest.CaptureFixture[str], status: str, requests: int
) -> None:
    with serve() as server:
        url, bodies = hook(server, "/secret-hook", response(b"no", status))
        notify(NotifySettings(url=url), NOTICE)
    assert len(bodies) == requests
    assert capsys.readouterr().err == (
        f"notify.url could not be told of gate_failed: the server answered {status[:3]}\n"
    )


def test_a_webhook_that_answers_the_second_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        url, bodies = hook(server, "/hook", response(b"no", "500 Broken"), response(b"ok"))
        notify(NotifySettings(url=url), NOTICE)
    assert len(bodies) == 2
    assert capsys.readouterr().err == ""


def test_a_webhook_is_not_followed_to_another_address(capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        there, others = hook(server, "/there", response(b"ok"))
        url, bodies = hook(server, "/hook", response(b"", "302 Found", f"Location: {there}"))
        notify(NotifySettings(url=url), NOTICE)
    assert (len(bodies), len(others)) == (1, 0)
    assert "the server answered 302" in capsys.readouterr().err


def test_a_webhook_that_drips_or_is_silent_holds_nobody_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "URL_SECONDS", 0.5)
    with serve() as server:
        dripping = server.drips("/drip", b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x")
        server.answers["/silent"] = lambda _: server.over.wait(30) and None
        for url in (dripping, server.url("/silent"), "http://127.0.0.1:9/nobody"):
            started = time.monotonic()
            notify(NotifySettings(url=url), NOTICE)
            assert time.monotonic() - started < 5
            said = capsys.readouterr().err
            assert said.startswith("notify.url could not be told of") and said.count("\n") == 1
            assert "127.0.0.1" not in said


def test_a_certificate_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificate(tmp_path / "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem")
    with serve(context) as server:
        url, bodies = hook(server, "/hook", response(b"ok"))
        secure = NotifySettings(url=url.replace("http:", "https:"))
        notify(secure, NOTICE)
        assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err and bodies == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        notify(secure, NOTICE)
        assert capsys.readouterr().err == "" and len(bodies) == 1


def test_both_are_told_whatever_becomes_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        url, bodies = hook(server, "/hook", response(b"ok"))
        notify(NotifySettings(command="/nowhere", url=url), NOTICE)
    assert len(bodies) == 1
    assert capsys.readouterr().err.count("could not be told") == 1
