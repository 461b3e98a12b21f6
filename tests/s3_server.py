"""An S3 server of this machine, a process of its own, that the environment points to."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3fs import S3FileSystem


@contextmanager
def s3_server(patch: pytest.MonkeyPatch, log: Path) -> Iterator[str]:
    """Run it until the block ends; yields its endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIDOFNOBODYATALL",
        "AWS_SECRET_ACCESS_KEY": "nobodys-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    try:
        _wait_until_it_answers(endpoint)
        S3FileSystem.clear_instance_cache()  # those of a test before know another endpoint
        yield endpoint
    finally:
        S3FileSystem.clear_instance_cache()
        server.kill()
        server.wait(timeout=30)


def _wait_until_it_answers(endpoint: str) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(endpoint, timeout=5):
                return
        except OSError:
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.05)
