"""Trained networks in a store: weights as safetensors, and a card that says what to build.

A checkpoint directory holds ``model.safetensors`` and ``model.json``, the loss ``history.json``,
TensorBoard events, and ``complete.json``, written last. The card has the sha256 of the weights, and
a checksum of itself: other parameters than those that were trained are never loaded.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError

from dcsp.errors import WeightsError
from dcsp.networks.model import Model
from dcsp.store.store import Store
from dcsp.tables.layout import CARD_FILE, COMPLETE_FILE, MODEL_FILE

FORMAT = 1
"""Version of the card."""
DIGEST = "sha256"
"""In a card: of the weights; those of earlier versions have none."""
Net = TypeVar("Net", bound=Model)


def save_network(store: Store, directory: str, network: Model) -> int:
    """Write a network into a checkpoint; returns the bytes of its weights.

    The checkpoint is not marked as complete by that.
    """
    weights, card = model_to_bytes(network)
    store.write_bytes(f"{directory}/{MODEL_FILE}", weights)
    store.write_json(f"{directory}/{CARD_FILE}", card)
    return len(weights)


def check_network(store: Store, directory: str) -> bool:
    """Compare the weights of a checkpoint with what its card says of them.

    Returns:
        Whether the card says it: those of earlier versions do not.

    Raises:
        StoreError: Weights or card are not there or cannot be read.
        WeightsError: The weights are not those that were saved.
    """
    card = store.read_json(f"{directory}/{CARD_FILE}")
    weights = store.read_bytes(f"{directory}/{MODEL_FILE}")
    _check_digest(weights, card, store.path(directory))
    return DIGEST in card


def load_checkpoint(store: Store, directory: str, kind: type[Net]) -> Net:
    """The network of a finished training, on the CPU and in evaluation mode.

    Args:
        store: The store.
        directory: Of the checkpoint.
        kind: Class that the network must be of.

    Raises:
        StoreError: The checkpoint is not there.
        WeightsError: It is of another kind or version, or is damaged.
    """
    card = store.read_json(f"{directory}/{CARD_FILE}")
    return model_from_bytes(
        store.read_bytes(f"{directory}/{MODEL_FILE}"), card, kind, store.path(directory)
    )


def checkpoint_is_complete(store: Store, directory: str) -> bool:
    """Whether a training has ended and left its network, of which nothing was removed since."""
    return {COMPLETE_FILE, MODEL_FILE, CARD_FILE} <= store.sizes(directory).keys()


def model_to_bytes(model: Model) -> tuple[bytes, dict[str, Any]]:
    """The parameters of a model as safetensors bytes, and its card."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    weights = safetensors.torch.save(state)
    return weights, {"format": FORMAT, **model.card(), DIGEST: hashlib.sha256(weights).hexdigest()}


def model_from_bytes(
    weights: bytes, card: dict[str, Any], kind: type[Net], place: str = "The checkpoint"
) -> Net:
    """Build the model that :func:`model_to_bytes` stored, in evaluation mode.

    Args:
        weights: Safetensors.
        card: What :func:`model_to_bytes` gave with them.
        kind: Class that the model must be of.
        place: Where it lies, for messages.

    Raises:
        WeightsError: The card is of another format or kind, or weights and card do not belong
            together: those are loaded that were saved, or none.
    """
    if card.get("format") != FORMAT or card.get("kind", kind.kind) != kind.kind:
        raise WeightsError(
            f"{place} holds a model of format {card.get('format')!r} and kind "
            f"{card.get('kind')!r}, expected were format {FORMAT} and kind {kind.kind!r}: name "
            "another checkpoint, train it again, or use the version of dcsp that wrote it."
        )
    _check_digest(weights, card, place)
    model = kind.from_card(card)
    try:
        model.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"The stored weights of {card['backbone']} are damaged or belong to another card "
            f"({str(error).splitlines()[0]}): remove this checkpoint and train it again."
        ) from error
    return model.eval()


def _check_digest(weights: bytes, card: dict[str, Any], place: str) -> None:
    if DIGEST in card and card[DIGEST] != hashlib.sha256(weights).hexdigest():
        raise WeightsError(
            f"{place} does not hold the weights that were trained: {MODEL_FILE} is damaged or of "
            "another training; remove this directory and submit the job again."
        )
