"""Tar shards through the ingest job as a user runs it: listed by tasks, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.errors import CorpusError
from jobs import ingest
from tests.corpus.tars import sample, write_tar

pytestmark = pytest.mark.cluster


def test_ingest_opens_new_shards_alone_and_tells_of_broken_ones(
    cluster: object, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        entries = [e for i in range(4) for e in sample(f"{i}", ["ball", "crates", "axe"])]
        write_tar(tmp_path / f"tars/{number}.tar", entries)
    submission = ["--config", str(config_file), f"store={tmp_path / 'store'}"]
    submission += [f"corpus.root={tmp_path / 'tars'}", "corpus.splits=[train]"]
    submission += ["corpus.kind=webdataset"]
    ingest.main(submission)
    first = capsys.readouterr()
    assert "listing: 5/5 shards" in first.err
    assert "train: 20 images in 10 parts" in first.out  # of three rows at most
    assert "1 different tags mean no class, 20 times in all" in first.err

    ingest.main(submission)
    again = capsys.readouterr().err
    assert "nothing changed in the source" in again and "listing" not in again

    (tmp_path / "tars/4.tar").write_bytes((tmp_path / "tars/4.tar").read_bytes()[:2000])
    with pytest.raises(CorpusError, match="1 of 5 shards cannot be listed to their end"):
        ingest.main(submission)
    ingest.main([*submission, "corpus.max_rejected_share=0.3"])
    assert "rejected: 1" in capsys.readouterr().out
