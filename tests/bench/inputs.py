"""What is measured on: photographs, their saliency by the real detector, and real score maps.

Images are the VOC photographs beside the checkout where they are there, else generated scenes laid
out the same way. Score maps come from a pretrained backbone whose pixel classifier is fitted here,
in seconds, on the masks of training images: a stand-in for a trained network that is wrong as one
is. No mined cue or figure of quality is ever drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dcsp.config import (
    CorpusSettings,
    DetectorSettings,
    NetworkSettings,
    PrecisionSettings,
    SaliencySettings,
    SceneSettings,
)
from dcsp.corpus.batches import select_rows
from dcsp.corpus.reading import check_mask
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.sources.scenes import ScenesSource
from dcsp.corpus.sources.voc import VOCSource
from dcsp.images.decode import decode_levels, decode_rgb
from dcsp.images.resize import resize_labels
from dcsp.inference.multiscale import Views, score_views
from dcsp.labels import IGNORE, SCENE_CLASSES, VOC_CLASSES, TagMapper
from dcsp.networks.deeplab import SegmentationNetwork, build_network
from dcsp.networks.weights import backbone_weights, resolve_weights
from dcsp.saliency.detector import SaliencyDetector
from dcsp.saliency.hierarchy import hierarchical_saliency
from dcsp.tables.codecs import decode_labels
from tests.photographs import PHOTOGRAPHS

FP32 = PrecisionSettings(autocast="fp32")
NETWORK = NetworkSettings(
    backbone="efficientnet_lite0", output_stride=16, atrous_rates=(1,), fcan_start="identity"
)
FITTING_STEPS = 60


@dataclass(frozen=True)
class Photograph:
    """An image with its mask (HW uint8, 255 unknown) and its tags."""

    row: SourceRow
    data: bytes
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    tags: list[int]


class Inputs:
    """Everything the rows measure on; each piece is made when a row first asks for it.

    Args:
        directory: Empty; for scenes and for what the rows write.
        quick: Few images and rounds: to see that it runs, not to report.
        scenes: Generated scenes even where there are photographs.
    """

    def __init__(self, directory: Path, quick: bool, scenes: bool = False) -> None:
        self.directory = directory
        self.quick = quick
        self._generated = scenes or not PHOTOGRAPHS.exists()

    @property
    def images(self) -> str:
        """What the images are, for ``detail``."""
        return "generated scenes" if self._generated else "photographs"

    def pick(self, quick: int, full: int) -> int:
        """The number to use."""
        return quick if self.quick else full

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The 20 class names; where scenes are shown, theirs come first."""
        return (*SCENE_CLASSES, *VOC_CLASSES[6:]) if self._generated else VOC_CLASSES

    @cached_property
    def source(self) -> VOCSource:
        """The images in the layout of VOC."""
        root = PHOTOGRAPHS
        if self._generated:
            root = self.directory / "scenes"
            train, val = self.pick(24, 96), self.pick(16, 240)
            settings = SceneSettings(train=train, val=val, height=375, width=500)
            _lay_out_scenes(root, ScenesSource(settings, self.classes, 0, ("train", "val")))
        return VOCSource(str(root), ("train", "val"))

    @cached_property
    def settings(self) -> CorpusSettings:
        """Of a corpus of these images."""
        return CorpusSettings(kind="voc", root=self.source.root, classes=self.classes)

    def rows(self, split: str, count: int) -> list[SourceRow]:
        """The first rows of a split, in hash order of their ids."""
        selected, _ = select_rows(self._listing, count)
        return [row for row in selected if row.split == split]

    def photographs(self, count: int, split: str = "val") -> list[Photograph]:
        """The first images of a split, in hash order of their ids."""
        mapper = TagMapper(self.classes)
        found = []
        for row in self.rows(split, count):
            data, mask = self.source.read(row), self.source.read_mask(row)
            assert mask is not None
            image = decode_rgb(data)
            ids = decode_levels(mask, image.shape[:2])
            labels = decode_labels(check_mask(mask, ids, len(self.classes))[0])
            found.append(Photograph(row, data, image, labels, mapper.map_tags(row.tags)[0]))
        return found

    def passes(self, photographs: list[Photograph]) -> NDArray[np.float32]:
        """s_1 … s_K of the detector, before they are combined: (images, K, h, w) in [0, 1]."""
        thresholds = SaliencySettings().thresholds
        recorded = []
        for photograph in photographs:
            recorder = _Recorder(self._detector)
            hierarchical_saliency([photograph.image], recorder, thresholds)
            maps = recorder.maps + recorder.maps[-1:] * (len(thresholds) + 1 - len(recorder.maps))
            recorded.append(np.stack(maps))
        return np.stack(recorded)

    def scores(self, photographs: list[Photograph]) -> list[NDArray[np.float32]]:
        """Score maps fused over three scales: (C+1, h, w) logits, channel 0 the background."""
        images = [photograph.image for photograph in photographs]
        views = Views("scores", (1.0, 0.75, 0.5))
        return score_views(self.network, images, views, max_side=None, precision=FP32)

    @cached_property
    def _listing(self) -> list[SourceRow]:
        return self.source.list_rows().rows

    @cached_property
    def _detector(self) -> SaliencyDetector:
        card = DetectorSettings()
        return SaliencyDetector(resolve_weights(card.model), card, threads=torch.get_num_threads())

    @cached_property
    def network(self) -> SegmentationNetwork:
        """A pretrained backbone and a pixel classifier that was fitted here, float32."""
        torch.manual_seed(0)
        network = build_network(NETWORK, self.classes, backbone_weights(NETWORK)).eval()
        _fit_classifier(network, self.photographs(self.pick(24, 80), "train"))
        return network


class _Recorder:
    """A detector of one image at a time that remembers what each call found."""

    def __init__(self, detector: SaliencyDetector) -> None:
        self.height, self.width = detector.height, detector.width
        self.maps: list[NDArray[np.float32]] = []
        self._detector = detector

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = self._detector(images)
        self.maps.append(found[0])
        return found


def _fit_classifier(network: SegmentationNetwork, photographs: list[Photograph]) -> None:
    """Logistic regression of masks on the backbone's cells, put into the one atrous branch."""
    features, labels = [], []
    with torch.inference_mode():
        backbone = network.backbone
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
        for photograph in photographs:
            image = (torch.from_numpy(photograph.image).permute(2, 0, 1) - mean) / std
            deepest = backbone(image[None])[-1][0]
            features.append(deepest.flatten(1).T)
            cells = resize_labels(photograph.mask, *deepest.shape[1:])
            labels.append(torch.from_numpy(cells).flatten().long())
    inputs, wanted = torch.cat(features).clone(), torch.cat(labels).clone()
    branch = network.aspp[0]
    assert isinstance(branch, torch.nn.Conv2d)
    weight = torch.zeros(branch.out_channels, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(branch.out_channels, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=5e-3, weight_decay=0.1)
    for _ in range(FITTING_STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), wanted, ignore_index=IGNORE)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        branch.weight.zero_()
        branch.weight[:, :, 1, 1] = weight
        assert branch.bias is not None
        branch.bias.copy_(bias)


def _lay_out_scenes(root: Path, scenes: ScenesSource) -> None:
    """Write generated scenes as a VOC year folder."""
    folders = {name: root / name for name in ("JPEGImages", "SegmentationClass")}
    lists = root / "ImageSets"
    for folder in (*folders.values(), lists / "Segmentation", lists / "Main"):
        folder.mkdir(parents=True)
    rows = scenes.list_rows().rows
    names = {row: row.image_id.replace("/", "_") for row in rows}
    for row, name in names.items():
        mask = scenes.read_mask(row)
        assert mask is not None
        (folders["JPEGImages"] / f"{name}.jpg").write_bytes(scenes.read(row))
        (folders["SegmentationClass"] / f"{name}.png").write_bytes(mask)
    for split in ("train", "val"):
        there = {row: name for row, name in names.items() if row.split == split}
        lines = "".join(f"{name}\n" for name in there.values())
        (lists / "Segmentation" / f"{split}.txt").write_text(lines)
        for tag in scenes.classes:
            lines = "".join(f"{n} {1 if tag in row.tags else -1}\n" for row, n in there.items())
            (lists / "Main" / f"{tag}_{split}.txt").write_text(lines)
