"""What is wrong with one file is told of that file; what is wrong with the place is raised."""

from __future__ import annotations

import fsspec
import pytest

from dcsp.corpus.sources.faults import told_of_parquet
from dcsp.corpus.sources.files import Folder, read_uri
from dcsp.errors import CorpusError, PlaceError
from tests.corpus.conftest import Deny


def test_refused_credentials_are_a_fault_and_not_of_one_file(deny: Deny) -> None:
    fsspec.filesystem("memory").pipe("/denied/a", b"a")
    deny("/a")
    told = r"^Cannot read memory://denied/a \(.*Permission denied.*\): check the address, the cred"
    with pytest.raises(PlaceError, match=told):
        read_uri("memory://denied/a")
    with pytest.raises(PlaceError, match=told):
        Folder("memory://denied").read_many(["a"])


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
