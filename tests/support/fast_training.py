"""A training of a few seconds, with few of the steps that prepare it."""

from adop.config import (
    DensifyConfig,
    EnvironmentConfig,
    GrowConfig,
    LearnConfig,
    OccludersConfig,
    RenderConfig,
    TrainConfig,
)

# From the first step on, the physical camera is learned; before it, it is not calibrated.
PHYSICAL_CAMERA_FROM_STEP_1 = {"exposure": 1, "white_balance": 1, "vignette": 1, "response": 1}

CONFIG = TrainConfig(
    steps=12,
    crop=64,
    batch=2,
    render=RenderConfig(levels=4, antialias=False),
    grow=GrowConfig(enabled=False),
    densify=DensifyConfig(enabled=False),
    occluders=OccludersConfig(enabled=False),
    environment=EnvironmentConfig(height=16),
    learn=LearnConfig(poses="off", intrinsics="off", distortion="off", **PHYSICAL_CAMERA_FROM_STEP_1),
    test_every=20,
)
