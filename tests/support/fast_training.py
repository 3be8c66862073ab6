"""A training of a few seconds, with few of the steps that prepare it."""

from adop.config import DensifyConfig, GrowConfig, LearnConfig, OccludersConfig, RenderConfig, TrainConfig

CONFIG = TrainConfig(
    steps=12,
    crop=64,
    batch=2,
    render=RenderConfig(levels=4, antialias=False),
    grow=GrowConfig(enabled=False),
    densify=DensifyConfig(enabled=False),
    occluders=OccludersConfig(enabled=False),
    learn=LearnConfig(poses="off", intrinsics="off", distortion="off"),
    test_every=20,
)
