"""Options of learning: what is learned and from when, learning rates, and the weights of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from adop.ranges import Fraction, Natural, NotNegative, Range

Switch = Literal["on", "off"] | int
Schedule = Annotated[Switch, Range(0)]


@dataclass(frozen=True)
class LearnConfig:
    """Choose what is learned: on, off, or the training step from which it is learned (until then it is frozen)."""

    features: Schedule = "on"
    """The points' features."""
    network: Schedule = "on"
    """The weights of the network."""
    environment: Schedule = "on"
    """The environment behind the points."""
    exposure: Schedule = "on"
    """Exposure, one EV per photo. Starts from EXIF where every photo has it."""
    white_balance: Schedule = "on"
    """White balance, gains of red and blue per photo."""
    vignette: Schedule = "on"
    """Vignette, three radial coefficients and a centre per lens."""
    response: Schedule = "on"
    """Camera response, a monotonic curve per lens and channel. Starts as sRGB."""
    poses: Schedule = "on"
    """The pose of each photo."""
    intrinsics: Schedule = "on"
    """The focal lengths of each lens (with `refine.align.principal_point` its principal point too)."""
    distortion: Schedule = "on"
    """The distortion of each lens: k1, k2 and the other radial coefficients that are not zero at the start."""
    rolling_shutter: Schedule = "off"
    """The motion of each photo's camera from its first row to its last."""
    points: Schedule = "off"
    """The positions of the points, moved in groups of neighbours from coarse to fine."""


def learned(schedule: Schedule, step: int) -> bool:
    """Return whether something with this schedule is learned at a step."""
    return schedule == "on" or (isinstance(schedule, int) and step >= schedule)


@dataclass(frozen=True)
class LearningRateConfig:
    """Set the learning rates of Adam at the start; all fall together along a cosine to `final` times their start."""

    features: NotNegative = 0.01
    """Points' features (the first three: the logarithm of linear colour), per step; their harmonics: a quarter."""
    network: NotNegative = 4e-3
    """Weights of the network, per step."""
    environment: NotNegative = 0.04
    """Features of the environment map, per step."""
    exposure: NotNegative = 2e-3
    """Exposures, EV per step."""
    white_balance: NotNegative = 2e-3
    """Logarithms of the white balance gains, per step."""
    vignette: NotNegative = 1e-3
    """Vignette coefficients and centres (half diagonals of the photo), per step."""
    response: NotNegative = 2e-3
    """Parameters of the response curves, per step."""
    poses: NotNegative = 5e-4
    """Poses, per step: radians, and fractions of the scene's extent. Only for refine.method gradient."""
    lens: NotNegative = 5e-4
    """Relative focal lengths, and distortion coefficients, per step. Only for refine.method gradient."""
    points: NotNegative = 2e-4
    """Positions of points, as a fraction of the scene's extent, per step. Only for refine.method gradient."""
    final: Fraction = 0.03
    """Factor that the learning rates have reached at the end, 0 to 1."""
    warmup: Natural = 25
    """Number of steps in which the learning rates rise from zero to their start."""


@dataclass(frozen=True)
class LossConfig:
    """Weight the terms of the loss."""

    l1: NotNegative = 1.0
    """Weight of the mean absolute difference between render and photo (both 0 to 1)."""
    mse: NotNegative = 0.0
    """Weight of the mean squared difference."""
    ssim: NotNegative = 0.3
    """Weight of 1 - SSIM. Source: Wang et al. 2004, structural similarity."""
    vgg: NotNegative = 0.0
    """Weight of the perceptual loss on VGG-19 features; needs `vgg_weights`. Source: Johnson et al. 2016."""
    vgg_weights: str | None = None
    """Safetensors file with torchvision's VGG-19 weights (features.N.weight, features.N.bias)."""
    camera_prior: NotNegative = 1.0
    """Weight of the prior on the physical camera: exposure near EXIF, response near sRGB, weak vignette."""
