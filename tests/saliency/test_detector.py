"""The detector: normalisation by the card, any batch, clear errors, and the real U2-Net-p."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dcsp.config import DetectorSettings
from dcsp.errors import ConfigError, DcspError, WeightsError
from dcsp.networks.weights import resolve_weights
from dcsp.saliency.detector import SaliencyDetector
from dcsp.saliency.hierarchy import hierarchical_saliency
from tests.photographs import JPEGS, needs_photographs

PLAIN = DetectorSettings(height=8, width=10, scale="255", mean=(0, 0, 0), std=(1, 1, 1))


def write_model(
    path: Path, batch: int | str = "N", nodes: list[onnx.NodeProto] | None = None, rank: int = 4
) -> Path:
    """A model of 8×10 images with two outputs: the red plane (or ``nodes``), and all three."""
    nodes = nodes or [helper.make_node("Identity", ["red"], ["map"])]
    pick = helper.make_node("Gather", ["image", "first"], ["red"], axis=1)
    copy = helper.make_node("Identity", ["image"], ["planes"])
    graph = helper.make_graph(
        [pick, copy, *nodes],
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 10])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [None] * rank),
            helper.make_tensor_value_info("planes", TensorProto.FLOAT, [batch, 3, 8, 10]),
        ],
        [helper.make_tensor("first", TensorProto.INT64, [1], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, (count, 8, 10, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_images_whatever_batch_the_model_takes(
    tmp_path: Path, batch: int | str, count: int
) -> None:
    images = random_images(count)
    maps = SaliencyDetector(write_model(tmp_path / "m.onnx", batch), PLAIN)(images)
    assert maps.shape == (count, 8, 10) and maps.dtype == np.float32
    np.testing.assert_allclose(maps, images[..., 0] / 255, atol=1e-6)


def test_the_card_normalises_like_u2net(tmp_path: Path) -> None:
    card = DetectorSettings(height=8, width=10)
    images = random_images(2)
    images[1] //= 2
    maps = SaliencyDetector(write_model(tmp_path / "m.onnx"), card)(images)
    for image, found in zip(images, maps, strict=True):
        expected = (image / image.max() - np.array(card.mean)) / np.array(card.std)
        np.testing.assert_allclose(found, expected[..., 0].clip(0, 1), atol=1e-5)


def test_a_black_image_is_no_fault(tmp_path: Path) -> None:
    detector = SaliencyDetector(
        write_model(tmp_path / "m.onnx"), DetectorSettings(height=8, width=10)
    )
    assert np.isfinite(detector(np.zeros((1, 8, 10, 3), np.uint8))).all()


def test_logits_go_through_a_sigmoid(tmp_path: Path) -> None:
    card = PLAIN.model_copy(update={"activation": "sigmoid", "mean": (0.5, 0, 0)})
    images = random_images(1)
    maps = SaliencyDetector(write_model(tmp_path / "m.onnx"), card)(images)
    np.testing.assert_allclose(maps, 1 / (1 + np.exp(0.5 - images[..., 0] / 255)), atol=1e-6)


def test_wild_outputs_are_clamped(tmp_path: Path) -> None:
    card = PLAIN.model_copy(update={"mean": (0.4, 0, 0), "std": (0.01, 1, 1)})
    nodes = [helper.make_node("Sqrt", ["red"], ["map"])]  # not a number where red is below the mean
    maps = SaliencyDetector(write_model(tmp_path / "m.onnx", nodes=nodes), card)(random_images(2))
    assert maps.min() == 0 and maps.max() == 1


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_smaller_map_is_resized_to_the_input(tmp_path: Path, squeezed: bool) -> None:
    last = "small" if squeezed else "map"
    nodes = [helper.make_node("AveragePool", ["red"], [last], kernel_shape=[2, 2], strides=[2, 2])]
    if squeezed:
        nodes += [helper.make_node("ReduceMax", ["small"], ["map"], axes=[1], keepdims=0)]
    path = write_model(tmp_path / "m.onnx", nodes=nodes, rank=3 if squeezed else 4)
    images = np.full((2, 8, 10, 3), 51, np.uint8)
    maps = SaliencyDetector(path, PLAIN)(images)
    assert maps.shape == (2, 8, 10)
    np.testing.assert_allclose(maps, 0.2, atol=1e-6)


def test_images_of_another_size_or_type_are_refused(tmp_path: Path) -> None:
    detector = SaliencyDetector(write_model(tmp_path / "m.onnx"), PLAIN)
    for images in (random_images(1)[:, :7], random_images(1)[0], random_images(1).astype(float)):
        with pytest.raises(ValueError, match="uint8"):
            detector(images)


def test_a_card_that_does_not_fit_is_the_users_to_mend(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="height and width"):
        SaliencyDetector(path, PLAIN.model_copy(update={"height": 16}))
    with pytest.raises(ConfigError, match="from 0 to 1"):
        SaliencyDetector(path, PLAIN.model_copy(update={"output": 2}))
    with pytest.raises(ConfigError, match="not one map"):
        SaliencyDetector(path, PLAIN.model_copy(update={"output": 1}))(random_images(1))


def test_a_file_that_is_no_model_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file"):
        SaliencyDetector(tmp_path / "missing.onnx", PLAIN)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        SaliencyDetector(tmp_path / "text.onnx", PLAIN)


def test_a_model_in_several_files_is_refused(tmp_path: Path) -> None:
    """The digest of one says nothing of the others."""
    model = onnx.load(str(write_model(tmp_path / "one.onnx")))
    first = np.zeros(1, np.int64)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(first, "first"))
    parts = {"save_as_external_data": True, "size_threshold": 0, "location": "values.bin"}
    onnx.save(model, str(tmp_path / "two.onnx"), **parts)
    assert (tmp_path / "values.bin").exists()
    with pytest.raises(WeightsError, match=r"another file, 'values\.bin'"):
        SaliencyDetector(tmp_path / "two.onnx", PLAIN)
    SaliencyDetector(tmp_path / "one.onnx", PLAIN)


def test_what_torch_does_not_know_runs_on_the_cpu_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [helper.make_node("Sqrt", ["red"], ["map"])]
    path = write_model(tmp_path / "m.onnx", nodes=nodes)
    detector = SaliencyDetector(path, PLAIN, device="cuda:0")
    assert detector.device == "cpu"
    assert "on the CPU: the detector's file has the operator" in caplog.text


@pytest.fixture(scope="module")
def u2netp() -> SaliencyDetector:
    try:
        path = resolve_weights("u2netp")
    except DcspError as error:
        pytest.skip(f"the U2-Net-p file cannot be had here: {error}")
    return SaliencyDetector(path, DetectorSettings())


@pytest.mark.network
def test_u2netp_finds_the_one_object(u2netp: SaliencyDetector) -> None:
    rows, columns = np.mgrid[:320, :320]
    disc = (rows - 150) ** 2 + (columns - 170) ** 2 < 70**2
    image = np.where(disc[..., None], (200, 40, 30), (90, 140, 100)).astype(np.uint8)
    found = u2netp(image[None])[0]
    assert found[disc].mean() > 0.8 and found[~disc].mean() < 0.1


@pytest.mark.network
@needs_photographs
def test_u2netp_sees_more_of_a_photograph_with_every_pass(u2netp: SaliencyDetector) -> None:
    from PIL import Image

    with Image.open(JPEGS / "2007_000032.jpg") as opened:
        image = np.asarray(opened.convert("RGB"))
    (levels,) = hierarchical_saliency([image], u2netp, (0.7, 0.8))
    area = (levels > 0.5).mean(axis=(1, 2))
    assert levels.shape == (3, 320, 320)
    assert 0.01 < area[0] <= area[1] <= area[2] < 0.9
