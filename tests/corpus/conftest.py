"""Files that may not be read: tests often run as root, who may read every file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

Deny = Callable[[str], None]


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """Call it with the end of a path, local or of ``memory://``: reading such files is refused."""

    def refuse(ending: str) -> None:
        for kind, method in ((LocalFileSystem, "_open"), (MemoryFileSystem, "cat_file")):
            real = getattr(kind, method)

            def opened(self: Any, path: str, *args: Any, real: Any = real, **named: Any) -> Any:
                if path.endswith(ending):
                    raise PermissionError(13, "Permission denied", path)
                return real(self, path, *args, **named)

            monkeypatch.setattr(kind, method, opened)

    return refuse
