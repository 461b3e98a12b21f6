"""Files that may not be read: tests often run as root, who may read every file."""

from __future__ import annotations

import os
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
        for place, name, argument in (
            (LocalFileSystem, "_open", 1),
            (MemoryFileSystem, "cat_file", 1),
            (os, "open", 0),
        ):
            real = getattr(place, name)

            def opened(*args: Any, real: Any = real, argument: int = argument, **named: Any) -> Any:
                if str(args[argument]).endswith(ending):
                    raise PermissionError(13, "Permission denied", args[argument])
                return real(*args, **named)

            monkeypatch.setattr(place, name, opened)

    return refuse
