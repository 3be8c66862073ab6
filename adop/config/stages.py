"""Options of the renderer, and of what happens to points and cameras: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class RenderConfig:
    """Draw the points into a pyramid of images."""

    levels: int = 6
    """Number of levels of the pyramid, at least 1. Level l has 1/2^l of the image's width and height."""
    features: int = 4
    """Number of features per point, at least 3. The first three are the logarithm of the point's linear colour."""
    depth_tolerance: float = 0.01
    """A pixel blends the points whose depth is at most (1 + this) times its smallest depth. Source: Rückert et al.
    2022, ADOP (fuzzy depth test)."""
    radius_threshold: float = 0.6
    """Draw a point at a level only if its radius there is at least this many pixels. Source: Rückert et al. 2022, ADOP
    (stochastic point discarding)."""
    fill_levels: int = 4
    """Fill holes from this many of the finest levels, 1 to `levels`. Wider holes show the environment."""
    occlusion_tolerance: float = 0.05
    """A pixel that is farther away than a nearer surface on all sides, by this fraction of the depth, shows through a
    gap in that surface and is filled like a hole."""
    extrapolation_views: int = 4
    """In new views, continue the surrounding surface into empty space that fewer than this many photos look at. 0 shows
    the environment there instead."""
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    """Implementation of the rasterizer and its related operators. auto uses cuda on a GPU and cpu elsewhere; reference
    is plain torch, slow."""


@dataclass(frozen=True)
class NetworkConfig:
    """Turn the pyramid into radiance."""

    kind: Literal["decoder", "unet", "none"] = "decoder"
    """decoder: a small network from coarse to fine; unet: the gated U-Net of Rückert et al. 2022, ADOP; none: show the
    hole-filled points without a network."""
    width: int = 16
    """Channels of the decoder, or of the U-Net's finest level (each coarser level has twice as many)."""
    residual: bool = True
    """Add the network's output, zero at first, to the hole-filled points. Off: the network makes the whole image, as in
    Rückert et al. 2022, ADOP."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Show what lies behind the points, such as the sky."""

    enabled: bool = True
    """Learn a map of the environment. Off: learn a single background colour."""
    height: int | None = None
    """Rows of the latitude-longitude map, at least 1; it has twice as many columns. None: choose from 8, 16, ..., 256
    the height with which part of the photos predicts the others best."""


@dataclass(frozen=True)
class GrowConfig:
    """Add points in holes before training."""

    enabled: bool = True
    """Add points where several photos agree on the surface in a hole."""
    min_views: int = 3
    """Number of photos that must agree on a new point, at least 2."""
    stereo: bool = True
    """Find the depth in holes by plane-sweep stereo first. Off: try only depths near those around the hole."""
    stereo_levels: int = 2
    """Use stereo for gaps too wide to be filled from this many levels of the pyramid. Coarser fills are blurred."""
    stereo_photos: int = 6
    """Maximum number of other photos that stereo compares with each photo."""
    depth_tolerance: float = 0.03
    """Relative difference in depth above which one surface is taken to hide another."""
    longest_side: int = 320
    """Longer side of the reduced photos in which holes are found, pixels. New points are one of these pixels apart."""
    max_photos: int = 24
    """Maximum number of photos that are searched for holes, spread evenly over the capture."""
    neighbour_photos: int = 12
    """Number of nearby photos that a new point is compared with where stereo found nothing."""
    max_points: int = 200_000
    """Maximum number of points to add."""


@dataclass(frozen=True)
class PruneConfig:
    """Remove points that the photos contradict, before training."""

    enabled: bool = True
    """Remove points that enough photos see and too few show in the point's colour."""
    min_views: int = 3
    """Number of photos that must see a point before it can be removed."""
    colour_tolerance: float = 0.15
    """A photo agrees with a point if their colours differ by at most this much in every channel (the photo's range is
    0 to 1)."""
    min_agreement: float = 0.35
    """Keep a point if at least this fraction of the photos that see it agree with it, 0 to 1."""


@dataclass(frozen=True)
class AlignConfig:
    """Align the cameras: move each until the rendered scene matches its photo."""

    principal_point: bool = False
    """Also refine each lens's principal point and tangential distortion. Photos hardly distinguish them from a rotation
    of the camera."""
    longest_side: int = 1000
    """Longer side of the photos at the finest scale, pixels."""
    scales: int = 4
    """Number of image scales, each half as large as the previous one. The coarsest is aligned first."""
    iterations: int = 5
    """Maximum number of Gauss-Newton steps at each scale."""
    converged_px: float = 0.05
    """Stop moving a photo's camera when a step shifts its image by less than this, pixels of the scale."""
    pixels_per_photo: int = 60_000
    """Maximum number of pixels of a photo that are compared."""
    min_improvement: float = 0.01
    """Keep a photo's new camera only if its cost fell by at least this fraction."""
    rotation_prior_degrees: float = 1.0
    """How far the given rotations may be off: standard deviation of a prior that matters where a photo shows little."""
    translation_prior: float = 0.02
    """The same for camera centres, as a fraction of the distance to what the camera sees."""
    rolling_shutter_prior: float = 0.25
    """The same for a camera's motion while its rows are read out, as a multiple of the two priors above."""


@dataclass(frozen=True)
class MovePointsConfig:
    """Move points to where the photos show their colours."""

    grouped: bool = True
    """Move neighbouring points together."""
    sizes: tuple[float, float, float] = (0.03, 0.0075, 0.0025)
    """Voxel sizes of the groups that move together, from coarse to fine, as fractions of the scene's extent."""
    iterations: int = 6
    """Maximum number of Gauss-Newton steps at each scale of the photos."""
    smoothness: float = 1.0
    """How strongly neighbouring groups pull each other along, relative to what the photos say about a group."""
    position_prior: float = 0.004
    """How far points may be off, as a fraction of the scene's extent: standard deviation of a prior that matters where
    the photos show little."""
    individual: bool = False
    """Finally move every point on its own, with damping."""


@dataclass(frozen=True)
class RefineConfig:
    """Refine cameras and points."""

    method: Literal["picture", "gradient"] = "picture"
    """picture: Gauss-Newton steps that compare rendered images with the photos; gradient: Adam on the approximate point
    gradient of Rückert et al. 2022, ADOP."""
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    """Approximate gradient of method gradient. ghost: leave out random points and ask what drawing them would change,
    as in Rückert et al. 2022, ADOP; bilinear: treat every point as a bilinear footprint. `adop bench gradients`
    compares them."""
    align_every: int = 1000
    """Training steps between two alignments of the cameras."""
    align_photos: int = 8
    """Number of photos that are aligned each time. All photos take turns."""
    align_until: float = 0.8
    """Stop aligning cameras after this fraction of the run, 0 to 1."""
    align: AlignConfig = field(default_factory=AlignConfig)
    points: MovePointsConfig = field(default_factory=MovePointsConfig)
