"""What every backbone is: an image in, five stages of features out (paper 5.1).

Dimension letters of this package: B images, C channels, H×W image pixels, h×w feature cells.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dcsp.errors import WeightsError

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (123.675, 116.28, 103.53)
"""Mean of the ImageNet training images per RGB channel, in grey levels 0–255."""
IMAGENET_STD: RGB = (58.395, 57.12, 57.375)
"""Standard deviation of the same."""

_SHOWN = 3  # keys and shapes named in an error message


class Backbone(nn.Module):
    """A classification network without its classifier, dilated to an output stride.

    Undilated, the five stages lie at strides 2, 4, 8, 16 and 32; stages beyond ``output_stride``
    stay at it and are dilated instead, so that pretrained filters keep their field of view.

    Attributes:
        stage_channels: Channels of the five stages, shallowest first.
        output_stride: Image pixels per cell of the deepest stage, 8 or 16.
        mean: RGB mean of the input normalisation, in grey levels 0–255.
        std: RGB standard deviation of the same.
        new_layers: Names of the child modules that no weights file has filled: they learn at the
            head's rate.
        classifier_prefixes: Keys of a weights file that belong to the classifier left out here.
        fetched: Digest of weights that a library fetched by itself, which nobody knew beforehand.
    """

    stage_channels: tuple[int, ...]
    output_stride: int
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    new_layers: tuple[str, ...] = ()
    classifier_prefixes: tuple[str, ...] = ()
    fetched: str | None = None

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """The five stages' features of normalised float images, deepest last.

        Raises:
            NotImplementedError: Called on the base class.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define its stages")

    def convolutions(self, image_BCHW: Tensor) -> list[Tensor]:
        """As :meth:`forward`, by the convolutions of the classifier alone, which its file fills."""
        found: list[Tensor] = self(image_BCHW)
        return found

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each stage."""
        return tuple(min(2 ** (n + 1), self.output_stride) for n in range(len(self.stage_channels)))

    def load_pretrained(self, state: Mapping[str, Tensor], source: str) -> None:
        """Fill the backbone from a classifier's state dict with the same key names.

        Classifier keys are ignored. New layers are filled where the file has them, and are no
        longer new then; all other parameters must be there.

        Args:
            state: Key → tensor.
            source: Where the state dict comes from, for error messages.

        Raises:
            WeightsError: Keys are missing or unknown, or shapes differ; the first few are named.
        """
        own = self.state_dict()
        given = {k: v for k, v in state.items() if not k.startswith(self.classifier_prefixes)}
        found = tuple(name for name in self.new_layers if f"{name}.weight" in given)
        still_new = tuple(name for name in self.new_layers if name not in found)
        optional = tuple(f"{name}." for name in still_new)
        missing = [
            key
            for key in own
            if key not in given
            and not key.startswith(optional)
            and not key.endswith("num_batches_tracked")
        ]
        unknown = [key for key in given if key not in own]
        if missing or unknown:
            raise WeightsError(
                f"The weights {source} do not fit {type(self).__name__}: "
                f"{_listing('missing', missing)}; {_listing('unknown', unknown)}; "
                "name the backbone these weights were trained with in network.backbone."
            )
        wrong = [
            f"{key} is {tuple(given[key].shape)}, not {tuple(own[key].shape)}"
            for key in given
            if given[key].shape != own[key].shape
        ]
        if wrong:
            raise WeightsError(
                f"The weights {source} do not fit {type(self).__name__}: "
                f"{_listing('wrong shapes', wrong)}; "
                "name the backbone these weights were trained with in network.backbone."
            )
        self.load_state_dict(given, strict=False)
        self.new_layers = still_new


def _listing(what: str, items: list[str]) -> str:
    if not items:
        return f"no {what} keys"
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{what}: {', '.join(items[:_SHOWN])}{more}"
