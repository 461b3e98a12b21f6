"""An S3 server of this machine, a process of its own, that the environment points to."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from s3fs import S3FileSystem


@contextmanager
def s3_server(patch: pytest.MonkeyPatch, log: Path) -> Iterator[str]:
    """Run it until the block ends; yields its endpoint."""
    server, endpoint = _start(log)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIDOFNOBODYATALL",
        "AWS_SECRET_ACCESS_KEY": "nobodys-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    try:
        S3FileSystem.clear_instance_cache()  # those of a test before know another endpoint
        yield endpoint
    finally:
        S3FileSystem.clear_instance_cache()
        _end(server)


def _start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers, and its endpoint.

    Its port was free a moment before; another process, Ray above all, may have taken it since.
    """
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with log.open("a") as sink:
            server = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        endpoint = f"http://127.0.0.1:{port}"
        if _answers(server, endpoint):
            return server, endpoint
        _end(server)
    raise AssertionError(f"the S3 server does not answer: {log.read_text()}")


def _answers(server: subprocess.Popen[bytes], endpoint: str) -> bool:
    """Whether it comes to answer, within a minute."""
    end = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(endpoint, timeout=5):
            return server.poll() is None
        time.sleep(0.05)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait(timeout=30)
