"""Names, tags and errors of strangers through ingest, commands, logs, tables and pages."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.comparison.table import FIGURES, Row
from dcsp.comparison.text import as_csv, as_markdown
from dcsp.config import CorpusSettings
from dcsp.config.file import parse_config
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.unknown_tags import count_unknown, tag_notes
from dcsp.errors import ConfigError, ImageError, StoreError
from dcsp.progress import Progress, say
from dcsp.store.remote import reason
from dcsp.store.store import Store
from dcsp.tables.schemas import REJECTED
from tests.corpus.shelf import ingest_here
from tests.store_fixture import build_store
from tests.strangers import HOSTILE, assert_harmless

SECRETS = (
    "https://user:hush@host/a.jpg",
    "https://hush@host/a.jpg",
    "https://host/a.jpg?token=hush",
    "https://host/a.jpg?w=1&X-Amz-Signature=hush&x=2",
    "https://host/a.jpg?sv=1&SIG=hush",
    "https://host/a.jpg?sas=hush",
    "https://host/a.jpg?api_key=hush",
    "https://host/a.jpg?auth=hush",
    "https://host/a.jpg?pwd=hush",
    "https://host/a.jpg#access_token=hush",
    "https://host/a.jpg?%74oken=hush",
    "s3://key:hush@bucket/x",
    "s3://key:hu/hush@bucket/x",
    "abfs://c:hush@account.dfs.core.windows.net/x",
)
CLEAN = (
    "https://host/a.jpg?w=1&author=me",
    "https://host:8443/a.jpg",
    "s3://bucket/a@2x/b=1",
    "abfs://container@account.dfs.core.windows.net/x",
    "/data/token=5/x",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_messages_log_lines_and_progress_stay_on_their_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = HOSTILE[name]
    say(f"ingest: {text}")
    shown = io.StringIO()
    with Progress(f"ingest {text}", 2, stream=shown) as bar:
        bar.reach(1, note=text)
    told = [capsys.readouterr().err, shown.getvalue()]
    told += [str(StoreError(f"There is no {text}.")), str(ImageError("missing", f"no {text}"))]
    told += [reason(OSError(text)), str(OSError) + reason(OSError(text))]
    for line in told:
        assert_harmless(line)
        assert len(line.strip().split("\n")) == 1 and len(line) < 3000


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A corpus whose file names and tags are hostile, as far as a disk takes them."""
    root = tmp_path_factory.mktemp("photos")
    names = [text[:80].replace("/", "∕") for text in HOSTILE.values() if "\0" not in text]
    for index, name in enumerate(["good", *names]):
        file = root / f"{name}.jpg"
        if index % 2:
            file.write_bytes(b"")  # rejected, with its name in the message
        else:
            Image.new("RGB", (8, 6)).save(file)
    tags = [text[:500] for text in HOSTILE.values() if "\udce9" not in text and "\0" not in text]
    rows = [("good", "cat; https://h.org/?token=hush"), *zip(names, [*tags, "dog"], strict=False)]
    lines = [{"image": f"{name}.jpg", "tags": tag} for name, tag in rows if "\udce9" not in name]
    (root / "tags.jsonl").write_text("\n".join(map(json.dumps, lines)))
    store = Store(tmp_path_factory.mktemp("ingested") / "store")
    settings = CorpusSettings(
        kind="folder", classes=("cat",), max_rejected_share=1.0, root=str(root)
    )
    listing = list_corpus(store, settings, seed=0)
    ingested = ingest_here(listing)
    listing.remember(ingested.snapshot, 0.0)
    listed = len(listing.rows) + listing.left_out.num_rows
    live = sum(part.live for part in ingested.snapshot.parts)
    assert listed == live + ingested.snapshot.rejected and listed > len(names) // 2
    for note in tag_notes(store, ingested.snapshot, 1):
        say(note)
    return store


def test_rejected_rows_are_listed_and_written_without_harm(ingested: Store, tmp_path: Path) -> None:
    out = tmp_path / "rejected.csv"
    result = CliRunner().invoke(app, ["rejected", ingested.url, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert_harmless(result.output)
    assert "hush" not in result.output + out.read_text()
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows and list(rows[0]) == REJECTED.names
    for row in rows:
        for cell in row.values():
            assert_harmless(cell)
            assert not cell.lstrip()[:1] or cell.lstrip()[:1] not in "=+-@\t\r", cell


def test_no_file_of_the_store_holds_a_secret_of_a_table(ingested: Store) -> None:
    for name in ingested.files():
        if not name.endswith(".parquet"):
            assert b"hush" not in ingested.read_bytes(name), name


@pytest.mark.parametrize("name", HOSTILE)
def test_show_and_explain_say_nothing_that_a_terminal_obeys(name: str, tmp_path: Path) -> None:
    store = build_store(tmp_path)
    record = store.read_json("runs/demo-1111/run.json")
    text = HOSTILE[name].encode(errors="replace").decode()
    record["config"]["cues"]["gamma"] = text
    store.write_json("runs/demo-1111/run.json", record | {"created": text})
    table = f"cues/{store.list('cues')[0]}"
    store.write_json(f"{table}/stage.json", store.read_json(f"{table}/stage.json") | {"seed": text})
    for arguments in (["show"], ["explain", table], ["diff", "demo-1111", "demo-2222"], ["verify"]):
        result = CliRunner().invoke(app, [arguments[0], store.url, *arguments[1:]])
        assert (result.exit_code in (0, 1) and result.exception is None) or arguments == ["verify"]
        assert_harmless(result.output)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_comparison_is_a_table_whatever_its_settings_are_called(name: str) -> None:
    text = HOSTILE[name]
    none = {figure.name: None for figure in FIGURES}
    row = Row({text: text, "gamma": "-0.5"}, ("run-1",), none)
    table = as_csv([row])
    for cells in csv.reader(io.StringIO(table)):
        for cell in cells:
            assert_harmless(cell)
            assert cell == "-0.5" or cell.lstrip()[:1] not in ("=", "+", "-", "@")
    lines = as_markdown([row]).split("\n")
    assert_harmless("\n".join(lines)) if len(text) < 9999 else None
    assert len({line.replace(r"\|", "").count("|") for line in lines[:3]}) == 1


@pytest.mark.parametrize("url", SECRETS)
def test_credentials_in_an_address_are_refused_by_settings_and_commands_and_never_shown(
    url: str, tmp_path: Path
) -> None:
    base = {"store": str(tmp_path), "name": "x", "corpus": {"kind": "folder", "root": "/r"}}
    for key in ("store", "corpus.root", "corpus.masks", "corpus.tags", "network.weights",
                "saliency.maps", "saliency.detectors", "cluster.address"):  # fmt: skip
        block, _, name = key.partition(".")
        changed = {**base, block: {**base.get(block, {}), name: url} if name else url}
        with pytest.raises(ConfigError) as refused:
            parse_config(changed)
        assert "hush" not in str(refused.value) and "credentials" in str(refused.value), key
    with pytest.raises(StoreError, match="holds credentials") as told:
        Store(url)
    assert "hush" not in str(told.value)
    for command in ("show", "verify", "rejected", "report"):
        result = CliRunner().invoke(app, [command, url])
        assert result.exit_code == 2 and "hush" not in result.output + result.stderr
    for line in (str(StoreError(f"Cannot read {url} (x).")), reason(OSError(f"at {url}"))):
        assert "hush" not in line


@pytest.mark.parametrize("url", CLEAN)
def test_an_address_without_credentials_is_shown_as_it_is(url: str) -> None:
    assert str(StoreError(f"Cannot read {url}.")) == f"Cannot read {url}."


def test_a_secret_in_a_tag_is_neither_kept_nor_told() -> None:
    row = SourceRow("a", "a.jpg", "train", ("https://h.org/?token=hush",), None, "1")
    counted = count_unknown(
        [row], CorpusSettings(kind="folder", root="r", classes=("cat",)).mapper()
    )
    assert counted == Counter({"https://h.org/?token=…": 1})
