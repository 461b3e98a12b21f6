"""The one network: DeepLabV2's summed atrous branches with the FCAN head on top (paper 4.1, 5.1).

The score map f serves segmentation, the attention volume V (a 1×1 convolution of the raw scores)
serves classification by tags; both share every weight below them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dcsp.config import NetworkSettings, TrainSettings
from dcsp.errors import WeightsError
from dcsp.networks.backbones import TIMM_PREFIX, build_backbone
from dcsp.networks.base import Backbone

_FORMAT = 1
_NEW_WEIGHT_STD = 0.01  # paper 5.1
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"


class Scores(NamedTuple):
    """What the network puts out, raw: no ReLU, no softmax.

    Attributes:
        score_map: f, B×(C+1)×h×w logits, channel 0 the background.
        attention: V, B×C×h×w, channel c−1 for class c.
    """

    score_map: Tensor
    attention: Tensor


class SegmentationNetwork(nn.Module):
    """Backbone, summed atrous 3×3 branches to C+1 score channels, FCAN head 1×1 to C channels.

    BatchNorm keeps its statistics in training mode too; scale and shift learn with the backbone.

    Args:
        backbone: The feature extractor; its deepest stage is used.
        backbone_name: Its name in :func:`dcsp.networks.backbones.build_backbone`.
        classes: Names of classes 1…C.
        atrous_rates: Dilation of each branch, in score-map pixels.
        max_side: Longest side in pixels an image should have at scale 1, for callers; None: any.
    """

    def __init__(
        self,
        backbone: Backbone,
        backbone_name: str,
        classes: Sequence[str],
        atrous_rates: Sequence[int],
        max_side: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.backbone_name = backbone_name
        self.classes = tuple(classes)
        self.atrous_rates = tuple(atrous_rates)
        self.max_side = max_side
        features, scores = backbone.stage_channels[-1], len(self.classes) + 1
        self.aspp = nn.ModuleList(
            nn.Conv2d(features, scores, 3, padding=rate, dilation=rate) for rate in atrous_rates
        )
        self.fcan = nn.Conv2d(scores, len(self.classes), 1)
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", _per_channel(backbone.mean), persistent=False)
        self.register_buffer("_std", _per_channel(backbone.std), persistent=False)
        for module in self.new_modules():
            _initialise_new(module)

    @property
    def output_stride(self) -> int:
        """Image pixels per score-map pixel."""
        return self.backbone.output_stride

    def forward(self, image_BCHW: Tensor) -> Scores:
        """Scores of RGB images with grey levels 0–255, uint8 or float; normalised in here.

        A side of n pixels gives ceil(n / output_stride) cells. Scores are float32,
        under autocast too.
        """
        deepest_BChw = self.backbone(self._normalise(image_BCHW))[-1]
        branches = [branch(deepest_BChw).float() for branch in self.aspp]
        score_map = torch.stack(branches).sum(0)
        return Scores(score_map, self.fcan(score_map).float())

    def tag_logits(self, attention: Tensor) -> Tensor:
        """ẑ: global average pooling of a B×C×h×w attention volume, B×C."""
        return attention.mean(dim=(-2, -1))

    def train(self, mode: bool = True) -> SegmentationNetwork:
        """Training mode for all but BatchNorm, whose statistics stay frozen (paper 5.1)."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def new_modules(self) -> list[nn.Module]:
        """The modules that no weights file has filled: they learn at the head's rate."""
        return [*self.aspp, self.fcan, *map(self.backbone.get_submodule, self.backbone.new_layers)]

    def card(self) -> dict[str, Any]:
        """What :func:`network_from_bytes` needs to build the network again, JSON-able."""
        return {
            "format": _FORMAT,
            "backbone": self.backbone_name,
            "output_stride": self.output_stride,
            "atrous_rates": list(self.atrous_rates),
            "classes": list(self.classes),
            "max_side": self.max_side,
            "new_layers": list(self.backbone.new_layers),
        }

    def _normalise(self, image_BCHW: Tensor) -> Tensor:
        image = image_BCHW if image_BCHW.is_floating_point() else image_BCHW.float()
        return (image - self._mean) / self._std


def build_network(
    settings: NetworkSettings, classes: Sequence[str], weights_file: Path | None
) -> SegmentationNetwork:
    """Build the network on a backbone with these weights; new layers are drawn from N(0, 0.01).

    All random weights come from torch's global generator: seed it for a reproducible network.

    Args:
        settings: Backbone, strides and rates.
        classes: Names of classes 1…C.
        weights_file: The backbone's weights, as from
            :func:`dcsp.networks.weights.backbone_weights`; None: random, or timm's
            own where the settings ask for them.

    Raises:
        ConfigError: The backbone is unknown or not installed.
        WeightsError: The file does not fit the backbone or cannot be read.
    """
    fetched_by_timm = settings.backbone.startswith(TIMM_PREFIX) and settings.weights == "imagenet"
    backbone = build_backbone(
        settings.backbone, settings.output_stride, weights_file, pretrained=fetched_by_timm
    )
    network = SegmentationNetwork(
        backbone, settings.backbone, classes, settings.atrous_rates, settings.max_side
    )
    if settings.fcan_start == "identity":
        _start_with_identity(network.fcan)
    return network


def parameter_groups(network: SegmentationNetwork, settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimiser (paper 5.1): backbone, new weights, new biases.

    Learning rates are 1, ``head_multiplier`` and ``bias_multiplier`` times ``learning_rate``;
    weight decay is the same everywhere. Without ``train_backbone`` the backbone's parameters,
    new layers excepted, stop requiring gradients and have no group.

    Returns:
        Dicts with ``name``, ``params``, ``lr`` and ``weight_decay``.
    """
    new = [parameter for module in network.new_modules() for parameter in module.parameters()]
    new_ids = {id(parameter) for parameter in new}
    old = [parameter for parameter in network.parameters() if id(parameter) not in new_ids]
    for parameter in old:
        parameter.requires_grad_(settings.train_backbone)
    groups = {
        "backbone": (old if settings.train_backbone else [], 1.0),
        "new_weights": ([p for p in new if p.ndim > 1], settings.head_multiplier),
        "new_biases": ([p for p in new if p.ndim == 1], settings.bias_multiplier),
    }
    return [
        {
            "name": name,
            "params": params,
            "lr": settings.learning_rate * multiplier,
            "weight_decay": settings.weight_decay,
        }
        for name, (params, multiplier) in groups.items()
        if params
    ]


def network_to_bytes(network: SegmentationNetwork) -> tuple[bytes, dict[str, Any]]:
    """The network's parameters as safetensors bytes, and its card."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    return safetensors.torch.save(state), network.card()


def network_from_bytes(
    weights: bytes, card: dict[str, Any], device: str | torch.device = "cpu"
) -> SegmentationNetwork:
    """Build the network that :func:`network_to_bytes` stored, in evaluation mode.

    Raises:
        WeightsError: The card is of another format, or weights and card do not belong together.
    """
    if card.get("format") != _FORMAT:
        raise WeightsError(
            f"The model has format {card.get('format')!r}, this version reads {_FORMAT}: "
            "train it again or use the version of dcsp that wrote it."
        )
    backbone = build_backbone(card["backbone"], card["output_stride"])
    backbone.new_layers = tuple(card["new_layers"])
    network = SegmentationNetwork(
        backbone, card["backbone"], card["classes"], card["atrous_rates"], card["max_side"]
    )
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"The stored weights of {card['backbone']} are damaged or belong to another card "
            f"({str(error).splitlines()[0]}): remove this checkpoint and train it again."
        ) from error
    return network.to(device).eval()


def save_network(network: SegmentationNetwork, directory: str | Path) -> None:
    """Write ``model.safetensors`` and ``model.json`` into a local directory, made where missing."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    weights, card = network_to_bytes(network)
    (path / WEIGHTS_FILE).write_bytes(weights)
    (path / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_network(directory: str | Path, device: str | torch.device = "cpu") -> SegmentationNetwork:
    """Read what :func:`save_network` wrote, in evaluation mode.

    Raises:
        WeightsError: A file is missing, damaged, or of another format.
    """
    path = Path(directory)
    try:
        weights = (path / WEIGHTS_FILE).read_bytes()
        card = json.loads((path / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"Cannot read the model in {path} ({error}): it needs {WEIGHTS_FILE} and {CARD_FILE}."
        ) from error
    return network_from_bytes(weights, card, device)


def _per_channel(rgb: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1)


@torch.no_grad()
def _start_with_identity(fcan: nn.Conv2d) -> None:
    """Let the map of class c be score channel c, plus the noise it was drawn with."""
    channels = torch.arange(fcan.out_channels)
    fcan.weight[channels, channels + 1] += 1.0


def _initialise_new(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, _NEW_WEIGHT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
