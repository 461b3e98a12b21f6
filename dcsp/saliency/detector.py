"""Any salient object detector that is an ONNX file: images in, maps in [0, 1] out (paper 4.2).

The detector is off the shelf and is never trained here. What its file does not say (input size,
normalisation, which output) is the card in :class:`dcsp.config.DetectorSettings`.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from dcsp.config import DetectorSettings
from dcsp.errors import ConfigError, WeightsError
from dcsp.images.resize import resize_map

if TYPE_CHECKING:
    from dcsp.saliency.by_torch import TorchNetwork

ort: Any = onnxruntime  # it has no types
_LOG = logging.getLogger(__name__)
_QUIET = 3  # onnxruntime logs errors alone
_ELSEWHERE = re.compile(
    rb"\x0a\x08location\x12(?P<length>[\x01-\x7f])(?P<name>.{1,127})", re.DOTALL
)
"""ONNX's entry for a tensor whose values lie in another file: key, length and name of the file."""
_AT_ONCE = 16 * 320 * 320  # pixels of images that a model looks at in one call
_AT_ONCE_GPU = 64 * 320 * 320  # the same on a GPU


class SaliencyDetector:
    """A loaded detector. Build it where it runs (it does not pickle) and keep it.

    Attributes:
        height: Input height in pixels.
        width: Input width in pixels.
        device: Where it runs, ``"cpu"`` or the GPU that was asked for.
    """

    def __init__(
        self, path: str | Path, settings: DetectorSettings, device: str = "cpu", threads: int = 1
    ) -> None:
        """Load an ONNX file.

        Args:
            path: The file.
            settings: Its card.
            device: ``"cpu"``, where onnxruntime runs it, or ``"cuda"``, with an index or without,
                where torch does; a file with an operator that is not known there runs on the CPU,
                and the log says so.
            threads: CPU threads of one call.

        Raises:
            WeightsError: The file cannot be loaded.
            ConfigError: The card does not fit the model.
        """
        self.height = settings.height
        self.width = settings.width
        self._settings = settings
        self._session = _load(Path(path), threads)
        self._input, self._batch = _check_input(self._session, settings)
        outputs = self._session.get_outputs()
        if settings.output >= len(outputs):
            raise ConfigError(
                f"output={settings.output}, but the model {path} has "
                f"{len(outputs)} outputs: use a number from 0 to {len(outputs) - 1}."
            )
        self._output = outputs[settings.output].name
        self._network = None if device == "cpu" else _on_gpu(Path(path), self._output, device)
        self.device = device if self._network else "cpu"
        std = np.asarray(settings.std, np.float32).reshape(3, 1, 1)
        mean = np.asarray(settings.mean, np.float32).reshape(3, 1, 1)
        self._gain: NDArray[np.float32] = np.float32(1) / std
        self._offset: NDArray[np.float32] = mean / std

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Saliency of images of the detector's size.

        Args:
            images: (B, height, width, 3) uint8 RGB.

        Returns:
            (B, height, width) float32 in [0, 1]; what a model puts out beyond that is clamped,
            and not-a-number counts as not salient.

        Raises:
            ValueError: The images are of another size or type.
            ConfigError: The model's output is not one map an image.
        """
        expected = (self.height, self.width, 3)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
            raise ValueError(f"Expected B×{expected} uint8, got {images.dtype} of {images.shape}.")
        if len(images) == 0:
            return np.zeros((0, self.height, self.width), np.float32)
        if self._network:
            size = max(1, _AT_ONCE_GPU // (self.height * self.width))
            maps = [self._run_on_gpu(images[i : i + size]) for i in range(0, len(images), size)]
        else:
            inputs = self._normalise(images)
            size = self._batch or max(1, min(len(images), _AT_ONCE // (self.height * self.width)))
            maps = [self._run(inputs[i : i + size], size) for i in range(0, len(images), size)]
        return self._finish(np.concatenate(maps))

    def _normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's input, BCHW float32."""
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
        if self._settings.scale == "max":
            peak = np.maximum(images.max(axis=(1, 2, 3)), 1).astype(np.float32)
            planes *= self._gain / peak.reshape(-1, 1, 1, 1)
        else:
            planes *= self._gain / np.float32(255)
        planes -= self._offset
        return planes

    def _run(self, inputs: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """The raw maps (BHW) of at most ``size`` images, where the model takes ``size`` exactly."""
        count = len(inputs)
        if count < size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        raw = np.asarray(self._session.run([self._output], {self._input: inputs})[0])
        return self._one_map_an_image(raw, size)[:count]

    def _run_on_gpu(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same of BHWC images that are normalised there: a quarter of the bytes travel."""
        assert self._network
        planes = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        peak: float | torch.Tensor = 255.0
        if self._settings.scale == "max":
            peak = planes.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1)
        gain, offset = (torch.from_numpy(a).to(self.device) for a in (self._gain, self._offset))
        raw = self._network(planes * (gain / peak) - offset).cpu().numpy()
        return self._one_map_an_image(raw, len(images))

    def _one_map_an_image(self, raw: NDArray[Any], size: int) -> NDArray[np.float32]:
        if raw.ndim == 4 and raw.shape[1] == 1:
            raw = raw[:, 0]
        if raw.ndim != 3 or len(raw) != size:
            raise ConfigError(
                f"Output {self._settings.output} of the detector has the shape {raw.shape}, which "
                "is not one map an image: choose another with output in saliency.detectors."
            )
        return raw.astype(np.float32, copy=False)

    def _finish(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._settings.activation == "sigmoid":
            maps = 0.5 * (1 + np.tanh(0.5 * maps))
        maps = np.clip(np.nan_to_num(maps, nan=0.0), 0.0, 1.0)
        if maps.shape[1:] != (self.height, self.width):
            maps = resize_map(maps, self.height, self.width)
        return maps


def _on_gpu(path: Path, output: str, device: str) -> TorchNetwork | None:
    from dcsp.saliency.by_torch import TorchNetwork, UnknownOperatorError  # onnx: CPUs do without

    try:
        return TorchNetwork(path, output, torch.device(device))
    except UnknownOperatorError as error:
        _LOG.warning("Saliency runs on the CPU: the detector's file has %s.", error)
        return None


def _load(path: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Idle threads sleep rather than spin: several actors share the cores of a machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not path.is_file():
        raise WeightsError(
            f"The saliency detector {path} is no file: check model in saliency.detectors."
        )
    if elsewhere := _ELSEWHERE.search(path.read_bytes()):
        name = elsewhere["name"][: elsewhere["length"][0]].decode(errors="replace")
        raise WeightsError(
            f"The saliency detector {path} keeps weights in another file, {name!r}, which its "
            "digest says nothing of: save it as one ONNX file."
        )
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise WeightsError(
            f"The saliency detector {path} cannot be loaded as ONNX ({error}): check "
            "model in saliency.detectors."
        ) from error


def _check_input(session: Any, settings: DetectorSettings) -> tuple[str, int]:
    """Name of the image input, and the batch it asks for (0: any)."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4:
        raise ConfigError(
            f"The saliency detector wants {[i.shape for i in inputs]} where one B×3×H×W image "
            "input is expected: export it with such an input."
        )
    wanted = (3, settings.height, settings.width)
    if any(
        isinstance(has, int) and has != want for has, want in zip(shape[1:], wanted, strict=True)
    ):
        raise ConfigError(
            f"The saliency detector takes images of {shape[1:]} (C, H, W), the card says "
            f"{list(wanted)}: set height and width in saliency.detectors."
        )
    return inputs[0].name, shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
