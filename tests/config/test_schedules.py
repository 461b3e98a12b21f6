"""The manifests of Kubernetes: what a night starts with, and how often it tries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.source_tree import ROOT

SCHEDULE = ROOT / "jobs/schedule"


def job(name: str) -> dict[str, Any]:
    """The part of a manifest that says what one run is."""
    spec = yaml.safe_load((SCHEDULE / f"{name}.yaml").read_text())["spec"]
    return dict(spec.get("jobTemplate", spec))


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize(("code", "attempts"), [(0, 1), (2, 1), (3, 1), (143, 1), (1, 3), (137, 3)])
def test_a_fault_is_tried_again_and_a_mistake_is_not(
    tmp_path: Path, code: int, attempts: int
) -> None:
    program = tmp_path / "dcsp"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexit {code}\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", job("rayjob")["entrypoint"]], env=environment, check=False, timeout=60
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert (done.returncode, len(calls)) == (code, attempts)
    assert all(call.startswith("relabel --config web_relabel store=s3://") for call in calls)


def test_a_night_is_the_same_run_as_one_by_hand() -> None:
    assert job("rayjob")["entrypoint"] == job("raycronjob")["entrypoint"]
    assert pods(job("rayjob")) == pods(job("raycronjob"))


@pytest.mark.parametrize("name", ["rayjob", "raycronjob"])
def test_nodes_and_nights_share_one_image_and_its_weights(name: str) -> None:
    claim = yaml.safe_load((SCHEDULE / "cache.yaml").read_text())["metadata"]["name"]
    for pod in pods(job(name)):
        (volume,) = pod["volumes"]
        (container,) = pod["containers"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        (mount,) = container["volumeMounts"]
        assert {"name": "DCSP_CACHE", "value": mount["mountPath"]} in container["env"]
        assert mount["name"] == volume["name"]
        tag = container["image"].rpartition(":")[2]
        assert tag not in ("latest", "") and "/" not in tag
