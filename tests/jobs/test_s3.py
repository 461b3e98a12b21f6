"""The whole chain with its store in a bucket, against a real S3 server that has bad days."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.faults.running import Proxy, proxy, rates
from tests.jobs.running import Run, call, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SECRET = "a-secret-that-no-file-may-hold"
KEY = "AKIDOFNOBODYATALL"

SPOILED = 0.05
"""Share of all requests that a fault spoils."""
STORE = "shelf/deep/store"
RENAMED = [
    (r"events\.out\.tfevents\.[\w.-]+", "events"),  # named after time, machine and process
    (r"history/(\d+)-\w+", r"history/\1"),  # and this after a random number
]


@pytest.fixture
def faulty_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """An empty bucket behind a proxy; the environment says where that is and who we are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=(tmp_path / "moto.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(endpoint), "the S3 server", seconds=120)
        with proxy(endpoint, {}, seed=5) as found:
            for name, value in {
                "AWS_ENDPOINT_URL": found.address,
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }.items():
                monkeypatch.setenv(name, value)
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir("shelf")
            yield found
    finally:
        server.kill()
        server.wait(timeout=30)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps the logs of the clusters that a job starts."""
    folder = Path("/tmp") / f"dcsp-s3-{os.getpid()}"  # socket paths must be short
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_mining_on_a_bucket_with_faults_leaves_what_a_local_one_leaves(
    finished: Run, no_cluster: None, faulty_bucket: Proxy
) -> None:
    """The beginning of the chain; all of it is a slow test."""
    submission = ["--config", finished.config_file, f"store=s3://{STORE}", "--until", "saliency"]
    faulty_bucket.set(rates(SPOILED, stalls=0.001))
    done = call("relabel.py", *submission)
    assert done.returncode == 0, done.stderr
    counts = faulty_bucket.counts()
    faulty_bucket.set({})
    assert sum(counts.values()) > counts["requests"], "some were spoiled"
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket = {path.removeprefix(f"{STORE}/"): files.cat_file(path) for path in files.find("shelf")}
    tables = [name for name in bucket if name.endswith(".parquet")]
    assert len(tables) == 21  # corpus 6, truth 6, rejected 2, catalogue, saliency 6
    assert [n for n in tables if bucket[n] != (finished.store / n).read_bytes()] == []
    said = bucket | {"said": (done.stdout + done.stderr).encode()}
    assert [name for name, content in said.items() if SECRET.encode() in content] == []


@pytest.mark.slow
def test_the_chain_on_a_bucket_with_faults_leaves_what_a_local_one_leaves(
    finished: Run, no_cluster: None, faulty_bucket: Proxy, ray_folder: Path
) -> None:
    submission = ["--config", finished.config_file, f"store=s3://{STORE}"]
    submission += ["fcan.checkpoint_every=6"]  # those of a training go to the bucket as well
    faulty_bucket.set(rates(SPOILED, stalls=0.001))
    done = call("relabel.py", *submission)
    assert done.returncode == 0, done.stderr
    assert f"report: s3://{STORE}/runs/" in done.stdout
    again = call("relabel.py", *submission)
    assert again.returncode == 0 and "nothing to do" in again.stderr, again.stderr
    counts = faulty_bucket.counts()
    faulty_bucket.set({})
    spoiled = sum(counts.values()) - counts["requests"]
    assert spoiled > 0.01 * counts["requests"] > 3 and len(counts) >= 4, counts

    files = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket = {path.removeprefix(f"{STORE}/"): files.cat_file(path) for path in files.find("shelf")}
    local = {
        str(path.relative_to(finished.store)): path.read_bytes()
        for path in finished.store.rglob("*")
        if path.is_file()
    }
    assert sorted(map(_kind, bucket)) == sorted(map(_kind, local))
    tables = {name for name in local if name.endswith(".parquet")}
    assert len(tables) == 35  # corpus 6, truth 6, rejected 2, catalogue, maps 6, cues 8, labels 6
    assert [name for name in tables if bucket[name] != local[name]] == []
    assert bucket["CURRENT"] == local["CURRENT"]

    said = {"stdout": done.stdout, "stderr": done.stderr, "again": again.stdout + again.stderr}
    seen = bucket | {name: text.encode() for name, text in said.items()}
    logs = [path for path in ray_folder.rglob("*") if path.is_file()]
    assert len(logs) > 10
    seen |= {str(path): path.read_bytes() for path in logs}
    for secret in (SECRET.encode(), KEY.encode()):
        assert [name for name, content in seen.items() if secret in content] == []
    assert not (Path.cwd() / "s3:").exists(), "nothing took the URL for a path"


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({}, "The specified bucket does not exist): check the name of the bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check the address (AWS_ENDPOINT_URL)"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
    ],
)
def test_a_wrong_bucket_address_or_account_is_told_in_seconds(
    faulty_bucket: Proxy, config_file: Path, mistake: dict[str, str], message: str
) -> None:
    quick = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    started = time.monotonic()
    command = ["--config", config_file, "store=s3://no-such-bucket/store"]
    told = call("relabel.py", *command, environment=quick | mistake)
    assert told.returncode == 2, told.stderr
    last = told.stderr.splitlines()[-1]
    assert last.startswith("error: Cannot write LEASE in the store s3://no-such-bucket/store (")
    assert message in last and "Traceback" not in told.stderr and "node(s)" not in told.stderr
    assert SECRET not in told.stderr and KEY not in told.stderr
    assert time.monotonic() - started < 60  # on a busy machine


def _kind(name: str) -> str:
    for pattern, kind in RENAMED:
        name = re.sub(pattern, kind, name)
    return name
