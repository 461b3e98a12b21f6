"""Files are read by their path or URL; of several, each is there or says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.corpus.sources.files import Folder, read_uri
from dcsp.errors import ImageError
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
