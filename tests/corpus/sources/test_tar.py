"""Members of tar archives: as the standard library sees them, and whatever strangers write."""

from __future__ import annotations

import gzip
import io
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.corpus.sources.tar import Member, TarError, read_members
from tests.corpus.tars import END, header, padded, picture, tar_bytes


def members(data: bytes) -> list[Member]:
    return list(read_members(io.BytesIO(data), len(data)))


def content(data: bytes, member: Member) -> bytes:
    return data[member.offset : member.end]


def names_until_error(data: bytes) -> tuple[list[str], TarError | None]:
    names = []
    try:
        for member in read_members(io.BytesIO(data), len(data)):
            names.append(member.name)
    except TarError as error:
        return names, error
    return names, None


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1)
paths = st.lists(text, min_size=1, max_size=30).map("/".join)
entries = st.lists(st.tuples(paths, st.binary(max_size=1500)), max_size=6)


@given(entries, st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(max_examples=200, deadline=None)
def test_members_are_those_that_the_standard_library_reads(
    files: list[tuple[str, bytes]], format_: int
) -> None:
    try:
        data = tar_bytes(files, format_)
    except ValueError:  # ustar has no room for such a name
        return
    found = [(m.name, content(data, m)) for m in members(data) if m.is_file]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = [info for info in tar if info.isreg()]
        assert [name for name, _ in found] == [info.name for info in theirs]
        for (_, ours), info in zip(found, theirs, strict=True):
            file = tar.extractfile(info)
            assert file is not None and file.read() == ours


@given(entries, st.data())
@settings(max_examples=200, deadline=None)
def test_a_cut_archive_gives_the_members_before_the_cut_and_is_told(
    files: list[tuple[str, bytes]], draw: st.DataObject
) -> None:
    data = tar_bytes(files)
    last = members(data)[-1].end if files else 0
    cut = draw.draw(st.integers(0, last))
    whole = [member for member in members(data) if member.end <= cut]
    names, error = names_until_error(data[:cut])
    assert error is not None and error.truncated
    assert names == [member.name for member in whole][: len(names)]
    assert len(names) >= len(whole) - 1  # the header of an empty member ends where it does


@given(st.binary(max_size=4096))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_members_or_one_error(data: bytes) -> None:
    for member in members_or_none(data):
        assert 0 <= member.offset <= member.end <= len(data)


def members_or_none(data: bytes) -> list[Member]:
    try:
        return members(data)
    except TarError:
        return []


@given(entries, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_damaged_archive_never_gives_bytes_that_it_has_not(
    files: list[tuple[str, bytes]], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(tar_bytes(files))
    for place, value in changes:
        data[place % len(data)] = value
    for member in members_or_none(bytes(data)):
        assert 0 <= member.offset <= member.end <= len(data)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (8**11 - 1, "needs 8589936127 bytes, it has 2048"),
        (b"\x80" + bytes(3) + b"\xff" * 8, "needs"),
        (b"\xff" * 12, "for a number"),
        (b"-0000000777\0", "for a number"),
        (b"\x81" + bytes(11), "for a number"),
    ],
    ids=["8 GiB", "2^64", "negative", "minus", "2^88"],
)
def test_sizes_are_believed_only_as_far_as_the_file_goes(size: int | bytes, told: str) -> None:
    data = header("a.jpg", 3) + padded(b"abc") + header("bomb.jpg", size) + bytes(512)
    names, error = names_until_error(data)
    assert names == ["a.jpg"]
    assert error is not None and told in str(error)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6"])
def test_links_and_devices_have_no_bytes_and_are_no_files(kind: bytes) -> None:
    odd = header("odd.jpg", 8**11 - 1, kind, link="/etc/passwd")
    found = members(odd + header("a.jpg", 3) + padded(b"abc") + END)
    assert [(m.name, m.size, m.is_file) for m in found] == [
        ("odd.jpg", 0, False),
        ("a.jpg", 3, True),
    ]


def test_sparse_files_are_no_files_and_what_follows_is_found() -> None:
    more = bytes(504) + b"\1" + bytes(7)
    old = header("old.jpg", 512, b"S", sparse=True) + more + bytes(512) + bytes(512)
    records = b"22 GNU.sparse.major=1\n"
    pax = header("x", len(records), b"x") + padded(records) + header("holes.jpg", 512)
    found = members(old + pax + bytes(512) + header("a.jpg", 3) + padded(b"abc") + END)
    assert [(m.name, m.is_file) for m in found] == [
        ("old.jpg", False),
        ("holes.jpg", False),
        ("a.jpg", True),
    ]


def test_folders_are_told_from_files() -> None:
    found = members(header("d/", 0, b"5") + header("old/", 0, b"\0") + header("f") + END)
    assert [(m.is_folder, m.is_file) for m in found] == [(True, False)] * 2 + [(False, True)]


@pytest.mark.parametrize(
    "records",
    [
        b"9 path=\n",
        b"999 path=a\n",
        b"path=a\n",
        b"10 path=abc",
        b"-1 path=a\n",
        b"3 \n",
        b"0 path=a\n",
        b"13 size=-123\n",
        b"31 size=99999999999999999999999\n",
        b"9999999999999 path=a\n",
    ],
)
def test_bad_pax_records_are_damage(records: bytes) -> None:
    data = header("a.jpg") + header("x", len(records), b"x") + padded(records) + header("b") + END
    names, error = names_until_error(data)
    assert names == ["a.jpg"] and error is not None and "damaged" in str(error)


def test_huge_extended_headers_are_not_read() -> None:
    for kind in (b"x", b"L"):
        data = header("x", 2**20 + 1, kind) + bytes(2**20 + 512) + header("b") + END
        assert "has a header of 1048577 bytes" in str(names_until_error(data)[1])


def test_very_many_records_cost_no_more_than_their_bytes() -> None:
    records = b"6 a=b\n" * (2**20 // 6)
    data = header("x", len(records), b"x") + padded(records) + header("b") + END
    started = time.monotonic()
    assert names_until_error(data) == (["b"], None)
    assert time.monotonic() - started < 20


def test_names_that_lead_out_are_only_text() -> None:
    odd = ["/etc/passwd", "../../x.jpg", "a/../b.jpg", "C:\\x.jpg", "caf\u00e9.jpg"]
    assert [m.name for m in members(b"".join(map(header, odd)) + END)] == odd
    latin = bytearray(header("cafX.jpg"))
    latin[3] = 0xE9
    latin[148:156] = b" " * 8
    latin[148:156] = b"%06o\0 " % sum(latin)
    assert members(bytes(latin) + END)[0].name == "caf\\xe9.jpg"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "ends after 0 bytes"),
        (b"no tar" * 200, "is no tar archive"),
        (picture() + bytes(512), "is no tar archive"),
        (gzip.compress(tar_bytes([("a.jpg", b"abc")])) + bytes(512), "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(512), "compressed with zstd"),
        (header("a", 3) + padded(b"abc"), "without an end mark"),
        (bytes(3 * 2**20), "nothing but zeros"),
    ],
    ids=["empty", "text", "png", "gzip", "zstd", "no end mark", "zeros"],
)
def test_what_is_no_whole_archive_is_told(data: bytes, told: str) -> None:
    _, error = names_until_error(data)
    assert error is not None and told in str(error)


def test_archives_that_were_written_one_behind_the_other_are_read_to_the_end() -> None:
    first, second = tar_bytes([("a.jpg", b"1")]), tar_bytes([("b.jpg", b"2")])
    assert [m.name for m in members(first + second)] == ["a.jpg", "b.jpg"]
    names, error = names_until_error(first + b"rest" * 200)
    assert names == ["a.jpg"] and error is not None and "damaged at byte" in str(error)
