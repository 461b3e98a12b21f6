"""Hierarchical saliency and its detectors (paper 4.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from dcsp.config.base import Place, PositiveFloat, PositiveInt, Settings, Unit, Url, listed

KNOWN_CARDS: dict[str, dict[str, Any]] = {
    "isnet": {
        "height": 1024,
        "width": 1024,
        "scale": "255",
        "mean": (128 / 255,) * 3,
        "std": (256 / 255,) * 3,
    },
}
"""Registry name → what of its card is not the default; u2netp has all defaults."""


class DetectorSettings(Settings):
    """The card of a salient object detector: any ONNX file, image in, map out (paper 4.2).

    A name alone stands for a card: ``u2netp`` (the default) or ``isnet``.
    """

    later = frozenset({"mirror", "weight"})

    model: Url = "u2netp"
    """A registry name, a path or an https URL of an ONNX file."""
    sha256: str | None = None
    """Expected digest of the file; required for a URL."""
    height: PositiveInt = 320
    """Input height in pixels."""
    width: PositiveInt = 320
    """Input width in pixels."""
    scale: Literal["max", "255"] = "max"
    """Pixels are divided by the image's maximum (``max``) or by 255 before mean and std."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean taken off after scaling."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """RGB standard deviation divided by."""
    output: int = 0
    """Which output of the model is the map."""
    activation: Literal["none", "sigmoid"] = "none"
    """``sigmoid`` for models that put out logits."""
    mirror: bool = False
    """Also look at the mirrored image, and average."""
    weight: PositiveFloat = 1.0
    """Of its maps in the average, where there are several detectors."""

    @model_validator(mode="before")
    @classmethod
    def _name_is_a_card(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"model": value}
        if isinstance(value, dict) and isinstance(value.get("model"), str):
            return KNOWN_CARDS.get(value["model"], {}) | value
        return value


class SaliencySettings(Settings):
    """Hierarchical saliency (paper 4.2)."""

    detectors: Annotated[tuple[DetectorSettings, ...], BeforeValidator(listed)] = (
        DetectorSettings(),
    )
    """One detector, or several whose maps are averaged in each pass; ``[]``: there is none, and
    only methods that need none can be chosen. Paper: one."""
    thresholds: tuple[Unit, ...] = (0.7, 0.8)
    """Erasing threshold after each pass but the last; passes = thresholds + 1. Paper: 0.7, 0.8."""
    maps: Annotated[tuple[Place, ...], BeforeValidator(listed)] = ()
    """Maps that exist already, in place of detectors: a folder or bucket of S_1, or one for each of
    S_1 … S_K, with a grey PNG, ``.npy`` or ``.npz`` of the image's size for each image, named after
    it. What lies in a folder must stay as it is: put other maps into another one."""

    @model_validator(mode="after")
    def _maps_ask_for_no_detector(self) -> SaliencySettings:
        own = (self.detectors, self.thresholds)
        fields = type(self).model_fields
        if self.maps and own != (fields["detectors"].default, fields["thresholds"].default):
            raise ValueError(
                "saliency.maps stand in the place of detectors: leave saliency.detectors and "
                "saliency.thresholds out"
            )
        return self

    @property
    def passes(self) -> int:
        """Number of maps S_1 … S_K kept for an image, each of a pass of the detectors."""
        return len(self.maps) or len(self.thresholds) + 1
