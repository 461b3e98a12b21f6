"""What is wrong with one file is told of that file; what is wrong with the place is raised."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from dcsp.corpus.sources.faults import told_of_parquet
from dcsp.corpus.sources.files import Folder, read_uri
from dcsp.errors import CorpusError, ImageError, PlaceError
from tests.corpus.conftest import Deny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_local_file_that_may_not_be_read_is_unreadable(root: Path, deny: Deny) -> None:
    deny("/a")
    with pytest.raises(ImageError, match=r"may not read .*/a: change its permissions") as caught:
        read_uri(f"{root}/a")
    assert caught.value.reason == "unreadable"
    assert read_uri(f"{root}/b") == b"b"


def test_refused_credentials_are_a_fault_and_not_of_one_file(deny: Deny) -> None:
    fsspec.filesystem("memory").pipe("/denied/a", b"a")
    deny("/a")
    told = r"^Cannot read memory://denied/a \(.*Permission denied.*\): check the address, the cred"
    with pytest.raises(PlaceError, match=told):
        read_uri("memory://denied/a")
    with pytest.raises(PlaceError, match=told):
        Folder("memory://denied").read_many(["a"])


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_of_several_files_each_is_there_or_says_why(
    root: Path, deny: Deny, names: list[str]
) -> None:
    deny("/a")
    found = Folder(str(root)).read_many(names)
    assert list(found) == names
    reasons = {n: e.reason for n, e in found.items() if isinstance(e, ImageError)}
    assert reasons == {n: r for n, r in (("a", "unreadable"), ("c", "missing")) if n in names}
    assert found.get("b", b"b") == b"b"
    assert Folder(str(root)).read_many([]) == {}


@pytest.mark.parametrize(
    "fault", [PermissionError("Access Denied"), TimeoutError(), ConnectionResetError()]
)
def test_faults_of_a_bucket_are_not_of_its_bytes(fault: OSError) -> None:
    with (
        pytest.raises(PlaceError, match=r"^Cannot read s3://b"),
        told_of_parquet("s3://b/a.parquet"),
    ):
        raise fault
    with pytest.raises(type(fault)), told_of_parquet("/disk/a.parquet"):
        raise fault
    with pytest.raises(CorpusError, match="no readable Parquet"), told_of_parquet("a.parquet"):
        raise OSError("Couldn't deserialize thrift")
