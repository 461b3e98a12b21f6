"""The whole chain with its store in a bucket, against a real S3 server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.jobs.running import call, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SECRET = "a-secret-that-no-file-may-hold"
KEY = "AKIDOFNOBODYATALL"

KINDS = {
    r"CURRENT": 1,
    r"corpus/batches/\w+\.json": 6,
    r"corpus/listings/\w+\.json": 1,
    r"corpus/parts/\w+\.parquet": 6,
    r"corpus/\w+\.json": 1,
    r"corpus/\w+\.rejected\.parquet": 1,
    r"truth/\w+-\w+\.parquet": 6,
    r"saliency/\w+/(\w+\.parquet|stage\.json|complete-\w+\.json)": 6,
    r"cues/\w+/(\w+\.parquet|stage\.json|complete-\w+\.json)": 6,
    r"predictions/\w+/(\w+\.parquet|stage\.json|complete-\w+\.json)": 8,
    r"checkpoints/\w+/(model\.\w+|history\.json|stage\.json|complete\.json)": 10,
    r"checkpoints/\w+/tensorboard/events\.out\.tfevents\.[\w.-]+": 2,
    r"runs/[\w-]+/(run|metrics)\.json": 2,
    r"runs/[\w-]+/report/index\.html": 1,
}
"""Kinds of files of the tiny run without adaptation, and how many of each there are."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URL of a prefix in an empty bucket; the environment says where S3 is and who we are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=(tmp_path / "moto.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    endpoint = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        wait_until(lambda: _answers(endpoint), "the S3 server", seconds=120)
        fsspec.filesystem("s3", skip_instance_cache=True, endpoint_url=endpoint).mkdir("shelf")
        yield "s3://shelf/deep/store"
    finally:
        server.kill()
        server.wait(timeout=30)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=5):
            return True
    except OSError:
        return False


def test_the_chain_runs_on_a_bucket(no_cluster: None, bucket: str, config_file: Path) -> None:
    submission = ["--config", config_file, f"store={bucket}", "cues.adapt.rounds=0"]
    submission += ["fcan.checkpoint_every=2", "fcan.steps=3"]
    done = call("relabel.py", *submission)
    assert done.returncode == 0, done.stderr
    assert "report: s3://shelf/deep/store/runs/" in done.stdout

    files = fsspec.filesystem("s3", skip_instance_cache=True)
    paths = [path.removeprefix("shelf/deep/store/") for path in files.find("shelf")]
    found = Counter(_kind(path) for path in paths)
    assert found == KINDS, sorted(paths)

    current = files.cat_file("shelf/deep/store/CURRENT").decode().strip()
    metrics = json.loads(files.cat_file(f"shelf/deep/store/runs/{current}/metrics.json"))
    assert metrics["rows"]["predictions"]["ok"] == 16
    for path in files.find("shelf"):
        content = files.cat_file(path)
        assert SECRET.encode() not in content and KEY.encode() not in content, path
    assert SECRET not in done.stdout + done.stderr and KEY not in done.stdout + done.stderr

    again = call("relabel.py", *submission)
    assert again.returncode == 0 and "nothing to do" in again.stderr, again.stderr
    assert not (Path.cwd() / "s3:").exists(), "nothing took the URL for a path"


def _kind(path: str) -> str:
    return next((kind for kind in KINDS if re.fullmatch(kind, path)), f"unexpected: {path}")
