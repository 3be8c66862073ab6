"""The configuration of a whole training run, and the presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from adop.config.learning import LearnConfig, LearningRateConfig, LossConfig
from adop.config.stages import (
    DensifyConfig,
    EnvironmentConfig,
    GrowConfig,
    NetworkConfig,
    OccludersConfig,
    PruneConfig,
    RefineConfig,
    RenderConfig,
)
from adop.errors import UserError, quoted
from adop.ranges import Count, Natural, NotNegative, Positive, Range, Seed

Crop = Annotated[int, Range(16, 8192)]
Zoom = Annotated[float, Range(0.05, 20)]
Thinning = Annotated[float, Range(1, 100)]


@dataclass(frozen=True)
class TrainConfig:
    """Configure a training run."""

    preset: Literal["quick", "gpu", "large"] = "quick"
    """Where the other options start from. quick: minutes on two CPU cores; gpu: a GPU; large: a large GPU."""
    scene: Annotated[str, tyro.conf.Suppress] = ""
    """Scene folder; the command line takes it as its first argument."""
    steps: Count = 600
    """Number of training steps."""
    minutes: Positive | None = None
    """Train for this many minutes instead of a number of steps, which then depends on the machine."""
    seed: Seed = 0
    """Seed of all random numbers: the same seed gives the same run on a CPU."""
    device: str = "auto"
    """Device of torch to train on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""
    exposure: Literal["exif", "photos", "none"] = "exif"
    """Where exposures start. exif: EXIF, as far as the photos bear it out; photos: what they show; none: all alike."""
    batch: Count = 4
    """Number of crops per step, each from another photo."""
    crop: Crop = 256
    """Side of a training crop, pixels."""
    zoom: tuple[Zoom, Zoom] = (1.0, 1.0)
    """Smallest and largest magnification of a crop. Each crop's is random; 1 resamples none and trains sharpest."""
    thinning: Thinning = 2.5
    """Draw crops at random densities, down to 1/thinning^2, so that points do not learn noise together. 1: all points."""
    bf16: bool | None = None
    """Run the network in bfloat16. None: if the device has hardware for it."""
    cuda_graphs: bool = True
    """On a GPU, replay training steps and pictures as CUDA graphs: the same operations, launched faster."""
    test_every: Natural | None = None
    """Hold out every n-th photo, from the first on, for evaluation. 0: none. None: those that the scene holds out
    (split.txt), and where it names none, every 8th."""
    evaluate_every: Count = 1000
    """Steps between evaluations on up to four held-out photos. At the end all of them are evaluated."""
    checkpoint_seconds: NotNegative = 60.0
    """Seconds between checkpoints."""
    render: RenderConfig = field(default_factory=RenderConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    grow: GrowConfig = field(default_factory=GrowConfig)
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    occluders: OccludersConfig = field(default_factory=OccludersConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    lr: LearningRateConfig = field(default_factory=LearningRateConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def preset(name: str, say: Callable[[str], None] = print) -> TrainConfig:
    """Return a preset: quick (minutes on two CPU cores), gpu (a GPU) or large (a GPU with much memory).

    Args:
        say: gets a sentence where `name` is the former name of a preset.

    Raises: UserError for a name that no preset has.
    """
    if name == "default":
        say("the preset 'default' is called 'gpu' now")
        name = "gpu"
    quick = TrainConfig()
    gpu = dataclasses.replace(
        quick,
        preset="gpu",
        steps=15_000,
        crop=512,
        evaluate_every=2500,
        checkpoint_seconds=300.0,
        network=NetworkConfig(width=48),
        densify=DensifyConfig(max_points=8_000_000, max_photos=256),
        refine=RefineConfig(align_every=1000),
        lr=LearningRateConfig(network=2e-3),
    )
    large = dataclasses.replace(
        gpu,
        preset="large",
        steps=150_000,
        batch=8,
        densify=DensifyConfig(max_points=20_000_000, max_photos=1024, longest_side=3200),
        render=RenderConfig(levels=8, features=8),
        network=NetworkConfig(kind="unet", width=32),
    )
    for config in (quick, gpu, large):
        if config.preset == name:
            return config
    raise UserError(f"preset {quoted(name)} is not known: choose quick, gpu or large")
