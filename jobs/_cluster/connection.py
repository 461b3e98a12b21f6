"""Joining a cluster, or starting one on this machine; Ray's settings of this process."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray._private import ray_constants
from ray.exceptions import RayError
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dcsp.capacity.resources import SPARE_CPUS, Node, Resources
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, LostClusterError
from dcsp.progress import say
from dcsp.stages.libraries import NETWORKS, versions
from dcsp.telemetry import collect

from .._heart import Heart
from .._watch import PATIENT_THREADS
from .metrics import report

ANSWER_SECONDS = 60.0
"""What Ray gives a head that does not answer, unless its own setting says otherwise, before it ends
this process."""
ONE_ATTEMPT = {"RAY_gcs_server_port_wait_time_s": "1"}
"""To join a head: each takes 40 s where nobody answers, and Ray makes 20."""
VERSIONS_SECONDS = 20.0
"""How long the nodes of a cluster are asked for the versions of their libraries."""
STARTS = 3
"""Attempts at starting a local cluster."""
_started_here = False
"""Whether the cluster is of this process, with more CPUs than cores."""


def connect(settings: ClusterSettings) -> Resources:
    """Join the cluster that is named or surrounds this job, else start one on this machine.

    Raises:
        LostClusterError: Nobody answers at the address that is named.
        ClusterError: The cluster there cannot be joined.
    """
    if not ray.is_initialized():
        _start(settings.address or os.environ.get("RAY_ADDRESS"))
        report()
        _tell_other_versions()
    data_context()
    use_gpu = settings.use_gpu is not False
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [_node(node["Resources"], use_gpu) for node in alive]
    free = ray.available_resources()
    return Resources(
        cpus=sum(node.cpus for node in nodes),
        gpus=sum(node.gpus for node in nodes),
        nodes=len(nodes),
        shapes=tuple(nodes),
        free_cpus=float(free.get("CPU", 0)),
        free_gpus=float(free.get("GPU", 0)) if use_gpu else 0.0,
        free_memory=float(free.get("memory", 0)),
        cores=float(os.cpu_count() or 1) if _started_here else None,
    )


def _node(has: dict[str, float], use_gpu: bool) -> Node:
    return Node(
        cpus=float(has.get("CPU", 0)),
        gpus=float(has.get("GPU", 0)) if use_gpu else 0.0,
        memory=has.get("memory"),
        object_store=has.get("object_store_memory"),
    )


def _tell_other_versions() -> None:
    """Say which nodes have other libraries than this process: tables would be mixtures."""
    if _started_here:
        return
    packages = ("dcsp", *NETWORKS, "onnxruntime", "scikit-image")
    ask = ray.remote(num_cpus=0, max_retries=0)(versions)
    tasks = {
        ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(packages): node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")  # a head without any does no work
    }
    ready, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=VERSIONS_SECONDS)
    own = versions(packages)
    for task in ready:
        with suppress(RayError):  # a node that is lost is met where work is lost
            if told := other_versions(own, ray.get(task)):
                say(f"cluster: the node {tasks[task]} has {told}: tables would be mixtures")


def other_versions(own: Mapping[str, str], others: Mapping[str, str]) -> str:
    """What a node has otherwise than this process, in one line; empty where nothing is.

    >>> other_versions({"torch": "2.7", "numpy": "2.1"}, {"torch": "2.6", "numpy": "2.1"})
    'torch 2.6 (here 2.7)'
    """
    return ", ".join(
        f"{name} {others.get(name, 'missing')} (here {own.get(name, 'missing')})"
        for name in sorted({*own, *others})
        if own.get(name) != others.get(name)
    )


def data_context() -> ray.data.DataContext:
    """Ray Data's settings of this process, as every dataset here wants them."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # a wrapper would lose the user's error on its way
    context.target_max_block_size = None  # a part stays one block: it is written whole
    return context


def heart() -> Heart:
    """What tells that the head has gone, in time before Ray ends this process."""
    seconds = os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s")  # noqa: SIM112
    return Heart(ray.nodes, 2 / 3 * (float(seconds) if seconds else ANSWER_SECONDS))


def disconnect() -> None:
    """Leave the cluster; ends it when this process started it."""
    global _started_here
    collect(None)
    ray.shutdown()
    _started_here = False


def _start(address: str | None) -> None:
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": bool(os.environ.get("DCSP_RAY_LOGS")),
    }
    try:
        with _signals_of_the_job():
            if address:
                os.environ.update({n: v for n, v in ONE_ATTEMPT.items() if n not in os.environ})
                patient = {"env_vars": PATIENT_THREADS}
                ray.init(address=address, runtime_env=patient, job_config=_code(), **quiet)
            else:
                _start_here(quiet)
    except ConnectionError as error:
        raise LostClusterError(
            f"No Ray cluster answers at {address or 'this machine'} ({error}): check the address "
            "and that its head runs, and submit the job again."
        ) from error
    except (RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            f"Cannot join the Ray cluster at {address or 'this machine'} ({error}): check the "
            "address, the RAY_AUTH_MODE and RAY_AUTH_TOKEN of both sides, and that it is running."
        ) from error


@contextmanager
def _signals_of_the_job() -> Iterator[None]:
    """Give SIGTERM back to the job: Ray takes it.

    That of Ray's C++, which would end the process with a stack and the lease held, is not set at
    all: Python's of a moment later comes too late, and its threads cannot work meanwhile.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not handler:
        yield
        return
    # Of this process alone; in the environment it would be of all that it starts.
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    try:
        yield
    except SystemExit as ended:  # by Ray's handler, which is there while Ray starts
        if ended.code == signal.SIGTERM and callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _code() -> JobConfig:
    """Where workers find this package by the name that it has here: only the wheel installs it.

    In a clone that is not the working directory, Ray would not know.
    """
    clone = [str(Path(__file__).resolve().parents[2])] if __name__.startswith("jobs.") else []
    return JobConfig(_py_driver_sys_path=clone)


def own_folder() -> str:
    """Ray's folder of this account, which no other can open: what Ray makes, all may write to.

    Raises:
        OSError: It cannot be made, or is not this account's.
    """
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    folder = os.path.join(parent, f"ray-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.path.islink(folder) or os.stat(folder).st_uid != os.getuid():
        raise PermissionError(f"{folder} is of another account")
    os.chmod(folder, 0o700)
    return folder


def _start_here(quiet: dict[str, Any]) -> None:
    """Start a cluster of this machine alone, whatever other clusters it has.

    Raises:
        ClusterError: Ray's processes do not come up.
    """
    global _started_here
    cpus = (os.cpu_count() or 1) + SPARE_CPUS
    # A token of its own: nobody else joins, and none is left in the home directory.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for _ in range(STARTS):
        try:
            folder = own_folder()
            own = {"include_dashboard": False, "_temp_dir": folder, "job_config": _code()}
            ray.init("local", num_cpus=cpus, **own, **quiet)
            _started_here = True
            return
        except Exception as error:
            # Ray waits 30 s for its own processes, which a busy machine may not keep.
            if "timed out during startup" not in str(error):
                ray.shutdown()
                if isinstance(error, OSError):
                    raise ClusterError(
                        f"Ray cannot use its temporary folder ({error}): set RAY_TMPDIR to a short "
                        "path that this account may write to, such as /tmp/ray-of-mine."
                    ) from error
                raise
            ray.shutdown()
    raise ClusterError(
        f"Ray did not start on this machine in {STARTS} attempts: it is overloaded, try later."
    )
