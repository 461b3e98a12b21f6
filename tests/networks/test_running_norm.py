"""Running statistics of channels: what they become, and that ranks share them."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from dcsp.networks.running_norm import RunningNorm


def features(seed: int, images: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.01, 1.0, 30.0])[:, None, None]
    return torch.randn(images, 3, 5, 6, generator=generator) * scale + 2 * scale


def test_a_batch_becomes_what_batch_normalisation_makes_of_it() -> None:
    x = features(0)
    norm = RunningNorm(3).train()
    expected = nn.BatchNorm2d(3, eps=1e-4, affine=False, momentum=None).train()(x)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-4)
    assert int(norm.batches) == 1


def test_statistics_are_the_mean_over_the_batches_seen_and_stay_in_inference() -> None:
    norm = RunningNorm(3).train()
    batches = [features(seed) for seed in range(5)]
    for x in batches:
        norm(x)
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in batches]).mean(dim=0)
    torch.testing.assert_close(norm.mean, means, rtol=1e-4, atol=1e-5)
    norm.eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    first = norm(batches[0])
    torch.testing.assert_close(norm(batches[0][:1]), first[:1])
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_without_a_batch_seen_nothing_changes() -> None:
    x = features(0)
    torch.testing.assert_close(RunningNorm(3).eval()(x), x, rtol=1e-3, atol=1e-3)


def test_a_constant_channel_becomes_zero() -> None:
    assert not RunningNorm(2).train()(torch.full((2, 2, 3, 3), 7.0)).any()


def test_gradients_pass_to_the_features_scaled_alone() -> None:
    norm, x = RunningNorm(3).train(), features(0).requires_grad_()
    norm(x).sum().backward()
    assert x.grad is not None
    expected = (norm.variance + 1e-4).rsqrt()[:, None, None].expand_as(x)
    torch.testing.assert_close(x.grad, expected)


def test_two_ranks_have_the_statistics_of_one(tmp_path: Path) -> None:
    mp.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    whole = RunningNorm(3).train()
    expected = whole(features(0))
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([share["out"] for share in shares]), expected)
    for share in shares:
        torch.testing.assert_close(share["mean"], whole.mean)
        torch.testing.assert_close(share["variance"], whole.variance)


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    norm = RunningNorm(3).train()
    share = slice(0, 1) if rank == 0 else slice(1, 4)
    out = norm(features(0)[share])
    torch.save({"out": out, **norm.state_dict()}, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
