"""Every setting of a run, with its unit, its range and the paper's value (Chaudhry et al. 2017).

It holds settings alone: :mod:`dcsp.config.file` reads and writes them.
"""

from dcsp.config.base import Settings
from dcsp.config.corpus import CorpusSettings, HttpSettings, SceneSettings
from dcsp.config.cues import (
    AdaptSettings,
    AffinitySettings,
    AttentionSettings,
    BuiltinSettings,
    CueSettings,
    DCSPSettings,
    MCOFSettings,
    SuperpixelSettings,
)
from dcsp.config.networks import CRFSettings, NetworkSettings, PrecisionSettings
from dcsp.config.publishing import GateSettings, NotifySettings
from dcsp.config.run import (
    ClusterSettings,
    CorrectionSettings,
    PredictSettings,
    ReportSettings,
    RunConfig,
)
from dcsp.config.saliency import DetectorSettings, SaliencySettings
from dcsp.config.selftags import SelfTagSettings
from dcsp.config.training import FCANSettings, TrainSettings

__all__ = [
    "AdaptSettings",
    "AffinitySettings",
    "AttentionSettings",
    "BuiltinSettings",
    "CRFSettings",
    "ClusterSettings",
    "CorpusSettings",
    "CorrectionSettings",
    "CueSettings",
    "DCSPSettings",
    "DetectorSettings",
    "FCANSettings",
    "GateSettings",
    "HttpSettings",
    "MCOFSettings",
    "NetworkSettings",
    "NotifySettings",
    "PrecisionSettings",
    "PredictSettings",
    "ReportSettings",
    "RunConfig",
    "SaliencySettings",
    "SceneSettings",
    "SelfTagSettings",
    "Settings",
    "SuperpixelSettings",
    "TrainSettings",
]
