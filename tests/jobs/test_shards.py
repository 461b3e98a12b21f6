"""Tar shards through the ingest job as a user runs it: listed by tasks, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.tars import sample, write_tar
from tests.jobs.running import call

pytestmark = pytest.mark.cluster


def test_ingest_opens_new_shards_alone_and_tells_of_broken_ones(
    no_cluster: None, config_file: Path, tmp_path: Path
) -> None:
    for number in range(5):
        entries = [e for i in range(4) for e in sample(f"{i}", ["ball", "crates", "axe"])]
        write_tar(tmp_path / f"tars/{number}.tar", entries)
    submission = ["--config", config_file, f"store={tmp_path / 'store'}", "corpus.kind=webdataset"]
    submission += [f"corpus.root={tmp_path / 'tars'}", "corpus.splits=[train]"]
    first = call("ingest.py", *submission)
    assert first.returncode == 0, first.stderr
    assert "listing: 5/5 shards" in first.stderr
    assert "train: 20 images in 10 parts" in first.stdout  # of three rows at most
    assert "1 different tags mean no class, 20 times in all" in first.stderr

    again = call("ingest.py", *submission)
    assert again.returncode == 0 and "nothing changed in the source" in again.stderr
    assert "listing" not in again.stderr

    (tmp_path / "tars/4.tar").write_bytes((tmp_path / "tars/4.tar").read_bytes()[:2000])
    stopped = call("ingest.py", *submission)
    assert stopped.returncode == 2 and "Traceback" not in stopped.stderr
    assert "1 of 5 shards cannot be listed to their end" in stopped.stderr
    mended = call("ingest.py", *submission, "corpus.max_rejected_share=0.3")
    assert mended.returncode == 0, mended.stderr
    assert "rejected: 1" in mended.stdout
