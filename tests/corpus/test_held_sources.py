"""Images of real files and of a real server: other settings of the corpus ask for none again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.ingest import Ingested
from dcsp.corpus.listing import list_corpus
from dcsp.store.store import Store
from tests.corpus.shelf import ingest_here
from tests.corpus.tars import picture
from tests.http_server import Server, response, serve


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        for number in range(4):
            running.says(f"/{number}.png", response(picture(number)))
        yield running


class Corpus:
    """A folder of two files and a table that names four more by their URLs."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.folder, self.store, self.server = folder / "images", Store(folder / "store"), server
        self.folder.mkdir()
        for name in ("a", "b"):
            (self.folder / f"{name}.png").write_bytes(picture(ord(name)))
        urls = [server.url(f"/{number}.png") for number in range(4)]
        lines = [f"{image},cat" for image in ("a.png", *urls[:3])]
        table = "\n".join(["image,tags", *lines, "b.png,puppy", f"{urls[3]},puppy"])
        (self.folder / "tags.csv").write_text(f"{table}\n")

    def ingest(self, **changes: Any) -> tuple[Ingested, int]:
        """What it did, and how often the server was asked."""
        http = {"hosts": [f"127.0.0.1:{self.server.port}"], "allow_private": True}
        tree = {
            "kind": "folder",
            "root": str(self.folder),
            "classes": ["cat"],
            "max_rejected_share": 1.0,
            **changes,
            "http": http | changes.get("http", {}),
        }
        self.server.requests.clear()
        listing = list_corpus(self.store, CorpusSettings.model_validate(tree), seed=0)
        done = ingest_here(listing)
        listing.remember(done.snapshot, 1.0)
        return done, len(self.server.requests)


@pytest.fixture
def corpus(server: Server, tmp_path: Path) -> Corpus:
    made = Corpus(server, tmp_path)
    assert made.ingest()[1] == 3
    return made


def test_a_synonym_fetches_what_was_rejected_before_and_nothing_else(corpus: Corpus) -> None:
    done, asked = corpus.ingest(synonyms={"cat": ["puppy"]})
    assert (done.held, done.new, asked) == (4, 6, 1)


def test_patience_with_servers_is_no_reason_to_ask_again(corpus: Corpus) -> None:
    done, asked = corpus.ingest(part_rows=2, http={"attempts": 1, "timeout_seconds": 5})
    assert (done.held, done.snapshot.rejected, asked) == (4, 2, 0)


def test_other_rules_of_what_may_be_fetched_ask_again_and_leave_files_alone(
    corpus: Corpus,
) -> None:
    done, asked = corpus.ingest(http={"max_bytes": 10})
    assert (done.held, done.snapshot.rejected, asked) == (1, 5, 3)


def test_a_file_that_was_written_anew_is_read(corpus: Corpus) -> None:
    (corpus.folder / "a.png").write_bytes(picture(99) + b"longer")
    done, asked = corpus.ingest(part_rows=2)
    assert (done.held, done.new, asked) == (3, 4, 0)
