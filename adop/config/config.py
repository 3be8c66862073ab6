"""Configuration: one frozen dataclass per stage, and the presets. Imports no torch, so that `--help` is quick."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from adop.errors import UserError


@dataclass(frozen=True)
class RenderConfig:
    """Points to pyramid."""

    levels: int = 6
    """Levels of the pyramid; level l has 1/2^l of the resolution."""
    features: int = 4
    """Channels of a point's feature; the first three are the logarithm of its linear colour."""
    depth_tolerance: float = 0.01
    """A point counts while its depth is at most (1 + this) times the pixel's least depth."""
    radius_threshold: float = 0.6
    """A point is drawn at a level only while its radius there is at least this many pixels."""
    fill_levels: int = 4
    """Holes of the base picture are filled from this many levels; wider ones show the environment."""
    occlusion_tolerance: float = 0.05
    """A pixel this much (relative) behind nearer surface on both of its sides is seen through a gap: a hole."""
    extrapolation_views: int = 4
    """In new views, what is drawn goes on into space that fewer photos look at; 0: the environment shows there too."""
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    """Where points are rasterized; auto follows the device."""


@dataclass(frozen=True)
class NetworkConfig:
    """Pyramid to radiance."""

    kind: Literal["decoder", "unet", "none"] = "decoder"
    """decoder: coarse to fine only; unet: the paper's gated U-Net; none: the hole-filled points themselves."""
    width: int = 16
    """Channels of the decoder, or of the U-Net's finest level (doubled at each coarser one)."""
    residual: bool = True
    """Add to the hole-filled points, starting at zero; off: the paper's plain network, from nothing."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """What lies behind the points."""

    enabled: bool = True
    """Off: one learned background colour."""
    height: int | None = None
    """Rows of the latitude-longitude map, which has twice as many columns; left out: of 8, 16, ... 256 the number with
    which photos foretell one another best. What lies behind is hardly ever endlessly far: finer maps learn what single
    photos show."""


@dataclass(frozen=True)
class GrowConfig:
    """New points in holes, before training."""

    enabled: bool = True
    """Fill holes that at least `views` photos see alike."""
    views: int = 3
    """Photos that must agree."""
    stereo: bool = True
    """Look for the depth of holes by stereo first; else only at the depth around them."""
    stereo_levels: int = 2
    """Stereo fills gaps that are wider than so many levels of the pyramid can fill; a coarse fill is a blurred one."""
    likeness: float = 0.5
    """Share of a window's variance that other photos must show alike for stereo to have found a place."""
    sources: int = 6
    """Photos that stereo compares with each."""
    agreement: float = 0.15
    """Largest difference in the logarithm of radiance that counts as agreeing."""
    coherence: float = 0.7
    """Share of the hole around a pixel that must agree too: what agrees by chance stands alone."""
    tolerance: float = 0.03
    """Relative difference in depth from which one thing is behind another."""
    side: int = 320
    """Longer side of the reduced photos, pixels: new points are that dense."""
    photos: int = 24
    """Holes are looked for in at most so many photos."""
    others: int = 12
    """Photos asked whether they agree."""
    budget: int = 200_000
    """Most points to add."""
    depths: tuple[float, float, float, float, float] = (1.0, 0.9, 1.1, 0.75, 1.3)
    """Depths tried, as multiples of the depth around the hole."""


@dataclass(frozen=True)
class PruneConfig:
    """Points that the photos do not support, before training."""

    enabled: bool = True
    """Take them away."""
    views: int = 3
    """Photos that must see a point before it is judged."""
    tolerance: float = 0.15
    """Largest difference between the point's colour and the photo's, of the photo's range."""
    share: float = 0.35
    """A point stays where at least this share of the photos that see it agree."""


Group = Literal["on", "off"] | int


@dataclass(frozen=True)
class LearnConfig:
    """What is learned: on, off, or the step from which it is (until then it is frozen)."""

    features: Group = "on"
    """The features of the points."""
    network: Group = "on"
    environment: Group = "on"
    """What lies behind the points."""
    exposure: Group = "on"
    """One EV per photo; starts from EXIF where there is one."""
    white_balance: Group = "on"
    """Red and blue gain per photo."""
    vignette: Group = "on"
    """Three radial coefficients and a centre per lens."""
    response: Group = "on"
    """A monotonic curve per lens and channel; starts as sRGB."""
    poses: Group = "on"
    """The pose of each photo."""
    intrinsics: Group = "on"
    """Focal lengths of each lens."""
    distortion: Group = "on"
    """The radial coefficients that a lens has, and k1 and k2."""
    rolling_shutter: Group = "off"
    """How each photo's camera moves between its first and its last row."""
    points: Group = "off"
    """Where the points are: blocks of neighbours, coarse to fine."""


def learned(group: Group, step: int) -> bool:
    """Return whether a group is learned at a step."""
    return group == "on" or (isinstance(group, int) and step >= group)


@dataclass(frozen=True)
class AlignConfig:
    """Cameras moved to where the scene's pictures meet the photos."""

    centre: bool = False
    """Refine the centre of each lens too, and its tangential distortion: photos hardly tell them from a turn."""
    side: int = 1000
    """Longer side of the photos at the finest scale, pixels."""
    scales: int = 4
    """Scales, each half as large as the one before; the coarsest comes first."""
    rounds: int = 5
    """Most steps at each scale."""
    converged_px: float = 0.05
    """A photo rests when a step moves its picture by less, pixels of the scale."""
    sigma: float = 0.7
    """Blur of picture and photo, pixels of the scale."""
    pixels: int = 60_000
    """Pixels of a photo that the equations are made of."""
    gain: float = 0.01
    """A photo stays moved only where its cost fell by this share."""
    trust_degrees: float = 1.0
    """How far poses may be off: weighs the start against a photo that shows little."""
    trust_distance: float = 0.02
    """The same, of the camera's place, relative to what it sees."""
    trust_motion: float = 0.25
    """How far a camera may move while its rows are read out, relative to these two."""


@dataclass(frozen=True)
class MovePointsConfig:
    """Points moved to where the photos show their colours."""

    groups: bool = True
    """Move neighbouring points as one."""
    sizes: tuple[float, float, float] = (0.03, 0.0075, 0.0025)
    """Voxel sizes of the groups that move as one, coarse to fine, relative to the scene's extent."""
    rounds: int = 6
    """Most steps of Gauss-Newton at each size of the photos."""
    smooth: float = 1.0
    """Weight of neighbouring groups' motion in such a step, beside what the photos say of a group."""
    trust: float = 0.004
    """How far points may be off, relative to the scene's extent: weighs the start against what shows little."""
    single: bool = False
    """Move points singly last, damped."""


@dataclass(frozen=True)
class RefineConfig:
    """Cameras and points, by Gauss-Newton on the picture or by the published gradient."""

    method: Literal["picture", "gradient"] = "picture"
    """picture: Gauss-Newton on pictures of the points, then of the network; gradient: ghosts and Adam, as published."""
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    """With the published gradient: ghosts, or a bilinear footprint of every point (see `adop bench gradients`)."""
    every: int = 1000
    """Steps between alignments while the network trains."""
    photos: int = 8
    """So many photos are aligned each time, in turn."""
    until: float = 0.8
    """Share of the run after which cameras rest."""
    align: AlignConfig = field(default_factory=AlignConfig)
    points: MovePointsConfig = field(default_factory=MovePointsConfig)


@dataclass(frozen=True)
class LearningRateConfig:
    """Learning rates at the start; all fall together by a cosine to `final` of themselves."""

    features: float = 0.02
    network: float = 2e-3
    environment: float = 0.02
    exposure: float = 1e-3
    white_balance: float = 1e-3
    vignette: float = 5e-4
    response: float = 1e-3
    pose: float = 5e-4
    """With the published gradient: turns in radians, shifts relative to the depth of what is seen."""
    lens: float = 5e-4
    """With the published gradient: focal length relative, distortion as it is."""
    points: float = 2e-4
    """With the published gradient: relative to the scene's extent."""
    final: float = 0.03
    """Share of the learning rates left at the end."""
    warmup: int = 50
    """Steps over which the learning rates rise from zero."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms."""

    l1: float = 1.0
    mse: float = 0.0
    ssim: float = 0.2
    vgg: float = 0.0
    """Perceptual loss on VGG-19 features; needs `vgg_weights`."""
    vgg_weights: str | None = None
    """A safetensors file of torchvision's VGG-19 weights (features.N.weight, features.N.bias)."""
    camera_prior: float = 1.0
    """Exposures near EXIF, a smooth response near sRGB, a small vignette: decides what no photo can."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    preset: Literal["quick", "default", "large"] = "quick"
    """Where the other values start from."""
    scene: Annotated[str, tyro.conf.Suppress] = ""  # folder; set from the command line's first word
    steps: int = 3000
    """Optimiser steps."""
    minutes: float | None = None
    """Stop by the clock instead of by steps (the number of steps then depends on the machine)."""
    seed: int = 0
    device: str = "auto"
    """auto takes a CUDA GPU where there is one."""
    batch: int = 1
    """Crops in a step, each from another photo."""
    crop: int = 256
    """Side of a training crop, pixels."""
    zoom: tuple[float, float] = (0.75, 1.5)
    """Range of the random magnification of a crop."""
    bf16: bool | None = None
    """Run the network in bfloat16; left out: where the device computes it in hardware."""
    cuda_graphs: bool = True
    """On a GPU, capture the steps and replay them; the same operations, launched at once."""
    test_every: int = 8
    """Every so many photos, one is held out for evaluation (0: none)."""
    evaluate_every: int = 1000
    """Steps between evaluations on held-out photos (of at most four; the last one takes all)."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    render: RenderConfig = field(default_factory=RenderConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    grow: GrowConfig = field(default_factory=GrowConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    lr: LearningRateConfig = field(default_factory=LearningRateConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def preset(name: str) -> TrainConfig:
    """Return the preset of that name: quick (minutes on a laptop CPU), default (a GPU), large (a big GPU)."""
    quick = TrainConfig()
    if name == "quick":
        return quick
    default = dataclasses.replace(
        quick,
        preset="default",
        steps=40_000,
        batch=8,
        crop=512,
        evaluate_every=5000,
        checkpoint_seconds=300.0,
        network=NetworkConfig(width=32),
    )
    if name == "default":
        return default
    if name == "large":
        return dataclasses.replace(
            default,
            preset="large",
            steps=150_000,
            batch=16,
            render=RenderConfig(levels=8, features=8),
            network=NetworkConfig(kind="unet", width=32),
        )
    raise UserError(f"preset {name!r} is not known: choose quick, default or large")


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the configuration as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load_config(path: Path) -> TrainConfig:
    """Read a configuration written by `save_config`, or a part of one laid over its preset.

    Raises: UserError for a file that is not JSON, an unknown key or a value of the wrong type.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a config.json") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object with the keys of a training configuration")
    return _merge(preset(str(values.get("preset", "quick"))), values, str(path))


_LIKE: dict[str, Any] = {"bool": False, "int": 0, "float": 0.0, "str": ""}  # what an empty setting would hold


def _merge(config: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    types = {f.name: f.type for f in dataclasses.fields(config)}
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
        old = known[key]
        if dataclasses.is_dataclass(old):
            if not isinstance(value, dict):
                raise UserError(f"{where}: {key} must be an object")
            changed[key] = _merge(old, value, f"{where}: {key}")
        elif types[key] == "Group":
            changed[key] = _checked_group(value, f"{where}: {key}")
        elif old is None and value is not None:
            changed[key] = _checked(_LIKE[str(types[key]).removesuffix(" | None")], value, f"{where}: {key}")
        else:
            changed[key] = _checked(old, value, f"{where}: {key}")
    return dataclasses.replace(config, **changed)


def _checked_group(value: Any, where: str) -> Group:
    if value in ("on", "off") or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise UserError(f"{where} must be on, off, or the step from which it is learned, not {value!r}")


def _checked(old: Any, value: Any, where: str) -> Any:
    if isinstance(old, tuple):
        if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
            raise UserError(f"{where} must be a list of {len(old)} numbers")
        if len(value) != len(old):
            raise UserError(f"{where} must have {len(old)} numbers, not {len(value)}")
        return tuple(float(v) for v in value)
    if isinstance(old, bool) != isinstance(value, bool) and old is not None:
        raise UserError(
            f"{where} must be {'true or false' if isinstance(old, bool) else 'a ' + type(old).__name__}"
        )
    if isinstance(old, int) and not isinstance(old, bool) and not isinstance(value, int):
        raise UserError(f"{where} must be a whole number, not {value!r}")
    if isinstance(old, float) and not isinstance(value, int | float):
        raise UserError(f"{where} must be a number, not {value!r}")
    if isinstance(old, str) and not isinstance(value, str):
        raise UserError(f"{where} must be a text, not {value!r}")
    return float(value) if isinstance(old, float) else value
