"""Models as bytes: their weights as safetensors, and a card that says what to build them from."""

from __future__ import annotations

from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError

from dcsp.errors import WeightsError
from dcsp.methods.affinity.network import AffinityNetwork
from dcsp.methods.mcof.network import RegionNetwork
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.networks.model import Model
from dcsp.store.store import Store
from dcsp.tables.layout import CARD_FILE, COMPLETE_FILE, MODEL_FILE

FORMAT = 1
Net = TypeVar("Net", bound=Model)
KINDS = {kind.kind: kind for kind in (SegmentationNetwork, AffinityNetwork, RegionNetwork)}
"""Kind on the card → its class."""


def model_to_bytes(model: Model) -> tuple[bytes, dict[str, Any]]:
    """The parameters of a model as safetensors bytes, and its card."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return safetensors.torch.save(state), {"format": FORMAT, **model.card()}


def model_from_bytes(
    weights: bytes, card: dict[str, Any], device: str | torch.device = "cpu"
) -> Model:
    """Build the model that :func:`model_to_bytes` stored, in evaluation mode.

    Raises:
        WeightsError: The card is of another format, or weights and card do not belong together.
    """
    kind = KINDS.get(card.get("kind", SegmentationNetwork.kind))
    if card.get("format") != FORMAT or kind is None:
        raise WeightsError(
            f"The model is of format {card.get('format')!r} and kind {card.get('kind')!r}, this "
            f"version reads format {FORMAT} of {', '.join(KINDS)}: train it again or use the "
            "version of dcsp that wrote it."
        )
    model: Model = kind.from_card(card)
    try:
        model.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"The stored weights of {card['backbone']} are damaged or belong to another card "
            f"({str(error).splitlines()[0]}): remove this checkpoint and train it again."
        ) from error
    return model.to(device).eval()


def checkpoint_is_complete(store: Store, directory: str) -> bool:
    """Whether a training stage has ended and left its model."""
    return store.exists(f"{directory}/{COMPLETE_FILE}")


def load_checkpoint(store: Store, directory: str, kind: type[Net]) -> Net:
    """The network of a finished training stage, on the CPU.

    Args:
        store: The store.
        directory: Of the checkpoint.
        kind: Class that the network must be of.

    Raises:
        StoreError: The checkpoint is not there.
        WeightsError: It does not fit the network its card describes, or is of another kind.
    """
    card = store.read_json(f"{directory}/{CARD_FILE}")
    model = model_from_bytes(store.read_bytes(f"{directory}/{MODEL_FILE}"), card)
    if not isinstance(model, kind):
        raise WeightsError(
            f"{store.path(directory)} holds a {type(model).__name__}, not a {kind.__name__}: "
            "name the checkpoint of another training."
        )
    return model
