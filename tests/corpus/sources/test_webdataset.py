"""WebDataset shards: what a sample is, what becomes of odd ones, and where bytes come from."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import plan_batches, select_rows
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources import webdataset
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.sources.open import open_source
from dcsp.errors import CorpusError, ImageError
from dcsp.labels import TagMapper
from tests.corpus.tars import END, header, padded, picture, sample, tar_bytes, write_tar

MAPPER = TagMapper(("cat", "dog"))


def settings(root: Path | str, part_rows: int = 256) -> CorpusSettings:
    return CorpusSettings(
        kind="webdataset", root=str(root), classes=("cat", "dog"), part_rows=part_rows
    )


def listed(root: Path | str) -> dict[str, SourceRow]:
    return {row.image_id: row for row in open_source(settings(root), 0).list_rows().rows}


def outcome(root: Path) -> dict[str, set[str]]:
    """Image id → ``ok``, or the reasons it was rejected for."""
    source = open_source(settings(root), 0)
    rows, duplicates = select_rows(source.list_rows().rows)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings(root))
    found: dict[str, set[str]] = {name: {"ok"} for name in corpus["image_id"].to_pylist()}
    for row in [*duplicates.to_pylist(), *rejected.to_pylist()]:
        found.setdefault(row["image_id"], set()).add(row["reason"])
    return found


def test_samples_become_corpus_and_truth(tmp_path: Path) -> None:
    entries = [
        *sample("pets/a", ["dog", "cat", "cat"]),
        ("pets/a.seg.png", picture(2)),
        *sample("pets/b", "dog; cat", split="Validation"),
        ("pets/c.PNG", picture(3)),
        ("pets/c.txt", b"cat\ndog, "),
        ("pets/d.v2.jpg", picture()),
        ("notes.mp3", b"-"),
        ("README", b"-"),
        ("./.hidden.jpg", b"-"),
        *sample("pets/e", split="test"),
        ("./f.png", picture(5)),
    ]
    write_tar(tmp_path / "x/one.tar", entries)
    source = open_source(settings(tmp_path), 0)
    rows = source.list_rows().rows
    assert [(row.image_id, row.split, row.tags) for row in rows] == [
        ("x/one/pets/a", "train", ("cat", "dog")),
        ("x/one/pets/b", "val", ("cat", "dog")),
        ("x/one/pets/c", "train", ("cat", "dog")),
        ("x/one/f", "train", ()),
    ]
    corpus, truth, rejected = read_rows(source, rows, MAPPER, settings(tmp_path))
    stored = dict(zip(corpus["image_id"].to_pylist(), corpus["bytes"].to_pylist(), strict=True))
    assert stored == {
        "x/one/pets/a": picture(6),
        "x/one/pets/b": picture(6),
        "x/one/pets/c": picture(3),
        "x/one/f": picture(5),
    }
    assert truth["status"].to_pylist() == ["ok", "skipped", "skipped", "skipped"]
    assert rejected.num_rows == 0


@pytest.mark.parametrize(
    ("members", "tags"),
    [
        ({"json": b'{"tags": ["cat"]}', "cls": b"1", "txt": b"dog"}, ("cat",)),
        ({"json": b'{"tags": []}', "cls": b"1"}, ()),
        ({"json": b'{"caption": "a dog"}', "cls": b"1\n", "txt": b"cat"}, ("corpus.classes[1]",)),
        ({"json": b'{"tags": null}', "txt": b"\xef\xbb\xbfcat,dog"}, ("cat", "dog")),
        ({"cls": b"dog"}, ("dog",)),
        ({"cls": b"0 "}, ("corpus.classes[0]",)),
        ({"json": b'{"tags": [1, null, " cat "]}'}, ("1", "cat")),
    ],
)
def test_tags_come_from_json_then_class_then_text(
    tmp_path: Path, members: dict[str, bytes], tags: tuple[str, ...]
) -> None:
    entries = [("a.png", picture()), *((f"a.{kind}", data) for kind, data in members.items())]
    write_tar(tmp_path / "s.tar", entries)
    assert listed(tmp_path)["s/a"].tags == tags


def test_a_class_by_its_position_is_that_class_and_no_other(tmp_path: Path) -> None:
    entries = []
    for position in ("0", "1", "2"):
        entries += [(f"{position}.png", picture()), (f"{position}.cls", position.encode())]
    write_tar(tmp_path / "s.tar", entries)
    source = open_source(settings(tmp_path), 0)
    corpus, _, rejected = read_rows(source, source.list_rows().rows, MAPPER, settings(tmp_path))
    assert corpus["tags"].to_pylist() == [[1], [2]]
    (row,) = rejected.to_pylist()
    assert row["reason"] == "unknown_tag" and "'corpus.classes[2]'" in row["message"]


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("val-000.tar", "val"),
        ("val/000.tar", "val"),
        ("Validation_3.tar", "val"),
        ("val/train-1.tar", "train"),
        ("valid-000.tar", "val"),
        ("dev/000.tar", "val"),
        ("valley-1.tar", "train"),
        ("training/000.tar", "train"),
        ("deep/val/deeper/000.tar", "train"),
        ("test-000.tar", None),
    ],
)
def test_shards_may_name_the_split(tmp_path: Path, shard: str, split: str | None) -> None:
    write_tar(tmp_path / shard, [*sample("a"), *sample("b", split="val")])
    found = listed(tmp_path)
    name = shard.removesuffix(".tar")
    assert found[f"{name}/b"].split == "val"
    assert (found[f"{name}/a"].split if f"{name}/a" in found else None) == split


ODD: dict[str, tuple[bytes, str]] = {
    "absolute": (tar_bytes(sample("/etc/passwd")), "invalid_id"),
    "upwards": (tar_bytes(sample("../../a")), "invalid_id"),
    "control": (tar_bytes(sample("a\nb")), "invalid_id"),
    "no image": (tar_bytes([("a.json", b"{}")]), "missing"),
    "two images": (tar_bytes([*sample("a"), ("a.jpg", picture())]), "several_images"),
    "two of a kind": (
        tar_bytes([("a.png", picture()), ("a.json", b"{}"), ("a.png", picture(1))]),
        "duplicate_member",
    ),
    "no json": (tar_bytes([("a.png", picture()), ("a.json", b"{")]), "unreadable_tags"),
    "json list": (tar_bytes([("a.png", picture()), ("a.json", b"[]")]), "unreadable_tags"),
    "tags a number": (tar_bytes(sample("a", 7)), "unreadable_tags"),
    "tags an object": (tar_bytes(sample("a", {"cat": 1})), "unreadable_tags"),
    "deep json": (
        tar_bytes([("a.png", picture()), ("a.json", b"[" * 100_000)]),
        "unreadable_tags",
    ),
    "text no UTF-8": (tar_bytes([("a.png", picture()), ("a.txt", b"\xff")]), "unreadable_tags"),
    "huge text": (
        tar_bytes([("a.png", picture()), ("a.txt", b"cat," * 2**18 + b"dog")]),
        "unreadable_tags",
    ),
    "link": (header("a.png", 0, b"2", link="/etc/passwd") + END, "not_a_file"),
    "hard link": (header("a.png", 0, b"1", link="b.png") + END, "not_a_file"),
    "device": (header("a.png", 0, b"3") + END, "not_a_file"),
    "pipe": (header("a.png", 0, b"6") + END, "not_a_file"),
    "linked tags": (
        header("a.png", 3) + padded(b"abc") + header("a.json", 0, b"2", link="b") + END,
        "not_a_file",
    ),
    "damaged image": (tar_bytes([("a.png", picture()[:30]), ("a.txt", b"cat")]), "unreadable"),
    "empty image": (tar_bytes([("a.png", b""), ("a.txt", b"cat")]), "empty"),
    "unknown split": (tar_bytes(sample("a", split="holdout")), "unknown_split"),
    "lone surrogate": (tar_bytes(sample("a", ["\ud800"])), "unknown_tag"),
}
"""An archive with one odd sample in it, and what that becomes."""


@pytest.mark.parametrize("name", ODD)
def test_an_odd_sample_is_one_row_and_costs_no_other(tmp_path: Path, name: str) -> None:
    data, reason = ODD[name]
    before, after = tar_bytes(sample("before")), tar_bytes(sample("zafter"))
    (tmp_path / "s.tar").write_bytes(before + data + after)
    found = outcome(tmp_path)
    assert found.pop("s/before") == {"ok"} and found.pop("s/zafter") == {"ok"}
    (reasons,) = found.values()
    assert reasons == {reason}


def test_a_name_that_comes_back_later_is_a_duplicate(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", [*sample("a"), *sample("b"), *sample("a", ["dog"])])
    assert outcome(tmp_path) == {"s/a": {"ok", "duplicate_id"}, "s/b": {"ok"}}


def test_an_image_too_large_to_be_read_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "MEMBER_BYTES", 1000)
    write_tar(tmp_path / "s.tar", [("a.png", bytes(1001)), *sample("b")])
    assert outcome(tmp_path) == {"s/a": {"oversized"}, "s/b": {"ok"}}


def test_a_cut_shard_keeps_the_samples_before_the_cut_and_tells_of_it(tmp_path: Path) -> None:
    data = tar_bytes([*sample("a"), *sample("b"), *sample("c")])
    whole = data.index(b"c.png")
    (tmp_path / "s.tar").write_bytes(data[: whole + 700])
    assert outcome(tmp_path) == {"s/a": {"ok"}, "s/": {"truncated_shard"}} | {"s/b": {"ok"}}
    (tmp_path / "s.tar").write_bytes(data[: data.index(b"b.json") + 512])
    assert outcome(tmp_path) == {"s/a": {"ok"}, "s/": {"truncated_shard"}}


def test_a_shard_damaged_further_on_keeps_the_samples_before_that(tmp_path: Path) -> None:
    data = bytearray(tar_bytes([*sample("a"), *sample("b"), *sample("c")]))
    data[data.index(b"c.png") + 150] ^= 0xFF
    (tmp_path / "s.tar").write_bytes(data)
    found = outcome(tmp_path)
    assert found["s/a"] == {"ok"} and found["s/"] == {"damaged_shard"}


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("s.tar", b"no tar at all" * 100, "no tar archive"),
        ("s.tar", b"", "ends after 0 bytes"),
        ("s.tar.gz", b"\x1f\x8b" + bytes(600), "compressed with gzip"),
        ("s.tgz", b"\x1f\x8b" + bytes(600), "unpack it"),
    ],
)
def test_what_is_no_shard_is_explained(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=rf"{name} cannot be read: .*{told}"):
        open_source(settings(tmp_path), 0).list_rows()


def test_a_folder_without_shards_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"holds no \.tar files"):
        open_source(settings(tmp_path), 0).list_rows()


def test_one_file_can_be_the_corpus(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", sample("a"))
    (row,) = listed(tmp_path / "x.tar").values()
    assert row.image_id == "x/a" and row.etag


def test_listing_reads_no_image_and_no_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = bytes(200_000)
    write_tar(tmp_path / "s.tar", [(f"{i}.jpg", big) for i in range(20)])
    taken = 0
    real = webdataset.open_uri

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> Any:
            nonlocal taken
            data = super().read(size)
            taken += len(data or b"")
            return data

    monkeypatch.setattr(webdataset, "open_uri", lambda uri: Counting(uri))
    assert len(listed(tmp_path)) == 20
    assert taken <= 40 * 512  # headers, and the end that tar pads to 10 KiB
    monkeypatch.setattr(webdataset, "open_uri", real)
    assert [path.name for path in tmp_path.iterdir()] == ["s.tar"]


def test_rows_of_a_shard_stay_together_and_are_cut_by_rows_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in ("a", "b"):
        write_tar(tmp_path / f"{shard}.tar", [e for i in range(10) for e in sample(f"{i:02d}")])
    rows = open_source(settings(tmp_path, 4), 0).list_rows().rows
    batches = plan_batches(rows, 4)
    assert sorted(len(batch) for batch in batches) == [2, 2, 4, 4, 4, 4]
    assert all(len({row.shard for row in batch}) == 1 for batch in batches)
    monkeypatch.setattr(webdataset, "CHUNK_BYTES", 3000)
    small = plan_batches(open_source(settings(tmp_path, 4), 0).list_rows().rows, 4)
    assert {len(batch) for batch in small} == {2}


def test_a_remote_chunk_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    entries = [e for i in range(12) for e in sample(f"{i:02d}")]
    memory.pipe("/tars/s.tar", tar_bytes(entries))
    source = open_source(settings("memory://tars", 6), 0)
    rows, _ = select_rows(source.list_rows().rows)
    fetched: list[tuple[int, int]] = []
    real = MemoryFileSystem.cat_file

    def cat_file(self: Any, path: str, start: int, end: int) -> bytes:
        fetched.append((start, end))
        return bytes(real(self, path, start, end))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    webdataset._fetch.cache_clear()
    for batch in plan_batches(rows, 6):
        corpus, _, _ = read_rows(source, batch, MAPPER, settings("memory://tars", 6))
        assert corpus["bytes"].to_pylist() == [picture(2)] * 6
    assert len(fetched) == 2
    memory.rm("/tars", recursive=True)


def test_a_shard_that_changed_since_it_was_listed_gives_no_bytes(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", sample("a"))
    source = open_source(settings(tmp_path), 0)
    (row,) = source.list_rows().rows
    write_tar(tmp_path / "s.tar", [*sample("other"), *sample("a")])
    with pytest.raises(ImageError, match="has changed since it was listed") as caught:
        source.read(row)
    assert caught.value.reason == "missing"
    (tmp_path / "s.tar").unlink()
    with pytest.raises(ImageError, match="there is no file"):
        source.read(row)


def test_a_linked_shard_is_read_and_its_change_is_seen(tmp_path: Path) -> None:
    target = write_tar(tmp_path / "elsewhere/s.tar", sample("a"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/s.tar").symlink_to(target)
    source = open_source(settings(tmp_path / "root"), 0)
    (row,) = source.list_rows().rows
    assert source.read(row) == picture(1)
    write_tar(target, sample("a", ["dog"]))
    assert source.list_rows().rows[0].etag != row.etag


def test_archives_of_tar_itself_are_read(tmp_path: Path) -> None:
    """Folders, ``./`` in front of names, long names, and times in pax records."""
    long = f"{'deep/' * 40}image"
    for name, data in sample(long):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(data)
    for number, format_ in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{number}.tar", "w", format=format_) as tar:
            tar.add(tmp_path / "tree", arcname=".")
    assert {row.image_id for row in listed(tmp_path).values()} == {f"0/{long}", f"1/{long}"}


def test_of_a_sample_with_something_large_inside_the_rest_is_fetched_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between image and mask of one sample may lie a film."""
    memory = fsspec.filesystem("memory")
    film = [("a.png", picture()), ("a.mp4", bytes(50_000)), ("a.seg.png", picture(1))]
    memory.pipe("/tars/s.tar", tar_bytes([*film, *sample("b")]))
    monkeypatch.setattr(webdataset, "CHUNK_BYTES", 20_000)
    source = open_source(settings("memory://tars"), 0)
    rows, _ = select_rows(source.list_rows().rows)
    fetched: list[int] = []
    real = MemoryFileSystem.cat_file

    def cat_file(self: Any, path: str, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return bytes(real(self, path, start, end))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    webdataset._fetch.cache_clear()
    for batch in plan_batches(rows, 256):
        corpus, truth, rejected = read_rows(source, batch, MAPPER, settings("memory://tars"))
        assert corpus.num_rows == truth.num_rows and rejected.num_rows == 0
    assert len(fetched) == 3 and sum(fetched) < 20_000
    memory.rm("/tars", recursive=True)


def test_members_that_belong_to_no_image_are_counted(tmp_path: Path) -> None:
    members = ("a.heic", "a.XMP", "a.v2.jpg", "a.seg.bmp", ".hidden.jpg", "b/README", "b/._a.jpg")
    write_tar(tmp_path / "s.tar", [*sample("a"), *((name, b"-") for name in members)])
    found = open_source(settings(tmp_path), 0).list_rows()
    counted = {".heic": 1, ".xmp": 1, "*.jpg": 1, "*.bmp": 1, "hidden": 2, "without a suffix": 1}
    assert found.others == {
        f".{name}" if name[0] == "*" else name: n for name, n in counted.items()
    }
    assert [row.image_id for row in found.rows] == ["s/a"]


def test_other_suffixes_of_what_pillow_reads_are_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", [("a.jfif", picture()), ("b.JPG", picture()), ("c.j2k", b"")])
    assert outcome(tmp_path) == {"s/a": {"ok"}, "s/b": {"ok"}, "s/c": {"empty"}}
