"""Models as bytes: their weights as safetensors, and a card that says what to build them from."""

from __future__ import annotations

from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from dcsp.errors import WeightsError
from dcsp.networks.affinity import AffinityNetwork
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.networks.model import Model
from dcsp.networks.region import RegionNetwork

FORMAT = 1
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
