"""Every Ray idiom of this project, and the only package that imports Ray.

It connects to a cluster, works out who gets which CPUs and GPUs, spreads a
:class:`~dcsp.stages.stage.PartMap` over the parts of a corpus (Ray Data), and runs a
:class:`~dcsp.training.stage.TrainStage` (Ray Train). What is computed is decided in ``dcsp``.
"""

import os

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA visible to CPU tasks
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a cluster is started here or not at all

from dcsp.capacity.resources import Resources
from jobs._cluster.connection import connect, disconnect
from jobs._cluster.mapping import map_items, map_parts
from jobs._cluster.training import train

__all__ = ["Resources", "connect", "disconnect", "map_items", "map_parts", "train"]
