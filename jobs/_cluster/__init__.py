"""Every Ray idiom of this project, and the only package that imports Ray.

It connects to a cluster, spreads a :class:`~dcsp.stages.stage.TableStage` over the parts of a
corpus (Ray Data), and runs a :class:`~dcsp.training.stage.TrainStage` (Ray Train). What is computed
is decided in ``dcsp``, and who gets which CPUs and GPUs in :mod:`dcsp.capacity`.
"""

import os

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA visible to CPU tasks
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a cluster is started here or not at all

from .connection import connect, disconnect
from .executor import OnRay
from .mapping import map_items, map_parts
from .training import train

__all__ = ["OnRay", "connect", "disconnect", "map_items", "map_parts", "train"]
