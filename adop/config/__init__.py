"""Configuration: a frozen dataclass per stage, the presets, and their files. Imports no torch, so `--help` is quick."""

from adop.config.files import load_config, save_config
from adop.config.learning import LearnConfig, LearningRateConfig, LossConfig, Schedule, learned
from adop.config.stages import (
    AlignConfig,
    DensifyConfig,
    EnvironmentConfig,
    GrowConfig,
    MovePointsConfig,
    NetworkConfig,
    OccludersConfig,
    PruneConfig,
    RefineConfig,
    RenderConfig,
)
from adop.config.train import TrainConfig, preset

__all__ = [
    "AlignConfig",
    "DensifyConfig",
    "EnvironmentConfig",
    "GrowConfig",
    "LearnConfig",
    "LearningRateConfig",
    "LossConfig",
    "MovePointsConfig",
    "NetworkConfig",
    "OccludersConfig",
    "PruneConfig",
    "RefineConfig",
    "RenderConfig",
    "Schedule",
    "TrainConfig",
    "learned",
    "load_config",
    "preset",
    "save_config",
]
