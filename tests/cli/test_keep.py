"""Commands that change what is published."""

from __future__ import annotations

import re

import pytest

from dcsp.store.store import Store
from dcsp.tables.layout import part_file
from tests.cli.running import dcsp


def test_publish_moves_back_to_an_earlier_run_and_forward(store: Store) -> None:
    current = store.read_bytes("CURRENT")
    said = dcsp("publish", store.url, "demo-1111").output
    assert said == "published: demo-1111, before that demo-2222\n"
    assert store.read_bytes("CURRENT") == b"demo-1111\n"
    dcsp("publish", store.url, "demo-2222")
    assert store.read_bytes("CURRENT") == current
    dcsp("publish", store.url, "demo-2222")
    assert not store.exists("LEASE") and len(store.list("history")) == 2


@pytest.mark.parametrize("gone", ["figures", "manifest", "part", "network", "folder", "corpus"])
def test_a_run_of_which_something_is_gone_is_not_published(store: Store, gone: str) -> None:
    (predictions,) = {
        step["directory"]
        for step in store.read_json("runs/demo-1111/run.json")["steps"]
        if step["title"] == "predictions"
    }
    files = {
        "figures": "runs/demo-1111/metrics.json",
        "manifest": f"{predictions}/{next(n for n in store.list(predictions) if 'comp' in n)}",
        "part": part_file(predictions, "bb22"),
        "network": f"checkpoints/{store.list('checkpoints')[0]}/complete.json",
        "folder": predictions,
        "corpus": next(f"corpus/{n}" for n in store.list("corpus") if n.endswith(".json")),
    }
    store.remove(files[gone])
    said = dcsp("publish", store.url, "demo-1111", code=2).output
    assert len(said.splitlines()) == 1 and ("cannot be published" in said or gone == "corpus")
    assert store.read_bytes("CURRENT") == b"demo-2222\n" and store.list("history") == []


def test_rollback_goes_back_by_the_history_and_says_what_is_current(store: Store) -> None:
    told = dcsp("rollback", store.url, code=2).output
    assert "has no history of what was published before demo-2222" in told
    assert len(told.splitlines()) == 1 and "`dcsp publish STORE RUN`" in told
    empty = dcsp("history", store.url).output
    assert empty.startswith("history: none") and "demo-2222, which the history does not" in empty
    dcsp("publish", store.url, "demo-1111")
    assert dcsp("rollback", store.url).output == "published: demo-2222, before that demo-1111\n"
    assert "no run before demo-2222" in dcsp("rollback", store.url, code=2).output
    dcsp("publish", store.url, "demo-1111")
    assert "no run 'x'" in dcsp("rollback", store.url, "--to", "x", code=2).output
    dcsp("rollback", store.url, "--to", "demo-2")
    text = dcsp("history", store.url).output
    rows = [re.split(r"\s{2,}", row.strip()) for row in text.splitlines()[1:6]]
    assert rows[0] == ["when", "what", "run", "now", "by", "before", "why"]
    first, back = rows[1][1:], rows[2][1:]
    assert first == ["published", "demo-1111", "withdrawn", "dcsp publish", "demo-2222"]
    assert back[:5] == ["rolled back", "demo-2222", "published", "dcsp rollback", "demo-1111"]
    assert back[5:] == ["back from demo-1111"]
    assert text.endswith("\npublished now: demo-2222\n") and not store.exists("LEASE")
