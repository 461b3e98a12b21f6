"""The decoder: it starts by changing nothing, lies on the right pixels, and learns edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dcsp.config import NetworkSettings, TrainSettings
from dcsp.errors import ConfigError
from dcsp.networks.checkpoint import model_from_bytes, model_to_bytes
from dcsp.networks.decoder import Decoder, skip_stages
from dcsp.networks.deeplab import SegmentationNetwork, build_network
from dcsp.networks.model import parameter_groups
from tests.training.tiny import TinyBackbone

CLASSES = ("cat", "dog")


def network(decoder: bool = True, backbone: str = "efficientnet_lite0") -> SegmentationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone=backbone, weights="random", output_stride=16, atrous_rates=(1,), decoder=decoder
    )
    return build_network(settings, CLASSES, None).eval()


def image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(65, 97), (64, 90), (33, 100)])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18", "vgg16"])
def test_it_starts_as_the_upsampled_scores(backbone: str, height: int, width: int) -> None:
    fine, coarse = network(True, backbone), network(False, backbone)
    coarse.load_state_dict({k: v for k, v in fine.state_dict().items() if "decoder" not in k})
    seen, expected = fine(image(height, width)), coarse(image(height, width))
    assert seen.score_map.shape[-2:] == (-(-height // 4), -(-width // 4))
    cells = seen.score_map[..., ::4, ::4]  # cell i of stride 16 is cell 4 i of stride 4
    torch.testing.assert_close(cells, expected.score_map)
    torch.testing.assert_close(seen.attention, expected.attention)
    assert (fine.output_stride, fine.grid_stride, coarse.output_stride) == (4, 16, 16)


def test_it_is_stored_and_learns_at_the_heads_rate() -> None:
    net = network()
    torch.nn.init.normal_(net.decoder.last.weight)
    again = model_from_bytes(*model_to_bytes(net), SegmentationNetwork).eval()
    torch.testing.assert_close(again(image(33, 33)).score_map, net(image(33, 33)).score_map)
    groups = {g["name"]: g for g in parameter_groups(net, TrainSettings(train_backbone=False))}
    learned = {id(p) for g in groups.values() for p in g["params"]}
    assert {id(p) for p in net.decoder.parameters()} <= learned
    assert "backbone" not in groups


def test_it_learns_an_edge_that_the_coarse_scores_do_not_have() -> None:
    torch.manual_seed(0)
    decoder = Decoder((3, 3), 2)
    decoder.draw()
    inside = torch.zeros(1, 1, 17, 17)
    inside[..., 5:12, 6:11] = 1
    shallow = inside.expand(1, 3, 17, 17) + 0.01 * torch.randn(1, 3, 17, 17)
    skips = [shallow, shallow[..., ::2, ::2]]
    coarse = F.interpolate(torch.cat([1 - inside, inside], 1), (5, 5), mode="area")
    target = inside[:, 0].long()
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(decoder(coarse, skips, 16), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_backbone_without_shallow_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"network\.decoder=true needs features at strides 4"):
        backbone = TinyBackbone()
        backbone.stage_channels = (8, 8)
        skip_stages(backbone)
