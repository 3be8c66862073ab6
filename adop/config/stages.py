"""Options of the renderer, and of what happens to points and cameras: one frozen dataclass per stage.

"ADOP" as a source is Rückert, Franke and Stamminger 2022, "ADOP: Approximate Differentiable One-Pixel Point Rendering".
Each option's help is one line: tyro keeps the line breaks of longer ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from adop.ranges import Count, Fraction, Natural, NotNegative, Positive, Range, Seed, Side

Levels = Annotated[int, Range(1, 12)]


@dataclass(frozen=True)
class RenderConfig:
    """Draw the points into a pyramid of images."""

    levels: Levels = 6
    """Number of levels of the pyramid. Level l has 1/2^l of the image's width and height."""
    features: Annotated[int, Range(3, 64)] = 4
    """Number of features per point. The first three are the logarithm of the point's linear colour."""
    harmonics: bool = True
    """Let a point's colour depend on the viewing direction, by spherical harmonics of the first order."""
    depth_tolerance: NotNegative = 0.01
    """A pixel blends points that lie at most this fraction of its depth behind its nearest point. Source: ADOP."""
    radius_threshold: NotNegative = 0.6
    """Draw a point at a level only if its radius there is at least this many pixels. Source: ADOP."""
    fill_levels: Levels = 4
    """Fill holes from this many of the finest levels, 1 to `levels`. Wider holes show the environment."""
    occlusion_tolerance: NotNegative = 0.05
    """A pixel counts as a hole if the surface all around it is nearer by more than this fraction of its depth."""
    extrapolation_views: Natural = 4
    """In new views, extend surfaces into empty space that fewer photos than this look at; 0: show the environment."""
    antialias: bool = True
    """Average new views and scored ones with three moved by a quarter of a pixel: less noise, four times the time."""
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    """Implementation: auto takes cuda on a GPU and cpu elsewhere; reference is plain torch, slow."""


@dataclass(frozen=True)
class NetworkConfig:
    """Turn the pyramid into radiance."""

    kind: Literal["light", "decoder", "unet", "none"] = "light"
    """light: a small network from coarse to fine; decoder: one with gated convolutions, slower; unet: ADOP's gated U-Net;
    none: only the hole-filled points."""
    width: Annotated[int, Range(1, 1024)] = 24
    """Channels of a decoder, or of the U-Net's finest level (each coarser level has twice as many)."""
    residual: bool = True
    """Add the network's output, zero at first, to the hole-filled points. Off: the output alone, as in ADOP."""
    photos: Annotated[int, Range(0, 16)] = 4
    """Number of trained photos that the network also sees, where they show what a view shows. 0, or no residual: none."""
    start: str = "auto"
    """What it starts from: a run's folder, or a file of `adop export --to network`. auto: the network that comes with
    adop, if it has this kind and size; none: nothing."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Show what lies behind the points, such as the sky."""

    enabled: bool = True
    """Learn a map of the environment. Off: learn a single background colour."""
    height: Annotated[int, Range(1, 8192)] | None = None
    """Rows of the latitude-longitude map; twice as many columns. None: choose from 8 to 256 by cross-validation."""


@dataclass(frozen=True)
class GrowConfig:
    """Add points in holes before training."""

    enabled: bool = True
    """Add points where several photos agree on the surface in a hole."""
    min_views: Annotated[int, Range(2)] = 3
    """Number of photos that must agree on a new point."""
    stereo: bool = True
    """Find the depth in holes by plane-sweep stereo first. Off: try only depths near those around the hole."""
    stereo_levels: Natural = 2
    """Use stereo for gaps too wide to be filled from this many levels of the pyramid. Coarser fills are blurred."""
    stereo_photos: Natural = 6
    """Maximum number of other photos that stereo compares with each photo."""
    depth_tolerance: NotNegative = 0.03
    """Relative difference in depth above which one surface is taken to hide another."""
    longest_side: Side = 320
    """Longer side of the reduced photos in which holes are found, pixels. New points are one of these pixels apart."""
    max_photos: Natural = 24
    """Maximum number of photos that are searched for holes, spread evenly over the capture."""
    neighbour_photos: Natural = 12
    """Number of nearby photos that a new point is compared with where stereo found nothing."""
    max_points: Natural = 200_000
    """Maximum number of points to add."""


@dataclass(frozen=True)
class DensifyConfig:
    """Add points between the cloud's own before training, until a pixel of every photo has about two."""

    enabled: bool = True
    """Add points in the gaps of the photos, on the surface of the points around them."""
    max_points: Annotated[int, Range(2)] = 1_000_000
    """Stop when the cloud has this many points. Of a scene that has more, so many are used."""
    max_photos: Natural = 64
    """Maximum number of photos whose gaps are filled, spread evenly over the capture."""
    longest_side: Side = 1600
    """Longer side of the photos at most, pixels, at scale 1."""
    scales: tuple[Annotated[float, Range(0.01, 16)], ...] = (0.5, 0.71, 1.0, 1.41)
    """Sizes of the photos in which gaps are filled in turn, a point per pixel: a small budget is spread evenly."""
    depth_tolerance: NotNegative = 0.03
    """Relative difference in depth up to which a neighbouring photo confirms a new point."""
    seed: Seed = 0
    """Seed of the random part of the level of detail."""


@dataclass(frozen=True)
class PruneConfig:
    """Remove points that the photos contradict, before training."""

    enabled: bool = True
    """Remove points that enough photos see and too few show in the point's colour."""
    min_views: Count = 3
    """Number of photos that must see a point before it can be removed."""
    colour_tolerance: NotNegative = 0.15
    """Largest difference in any channel at which a photo agrees with a point's colour; photos range from 0 to 1."""
    min_agreement: Fraction = 0.35
    """Keep a point if at least this fraction of the photos that see it agree with it, 0 to 1."""


@dataclass(frozen=True)
class OccludersConfig:
    """Leave out the parts of single photos in which something hides the scene, before training."""

    enabled: bool = True
    """Leave out what hides the points that other photos agree on: passers-by, leaves close to a camera, lens flares."""
    min_views: Count = 2
    """Number of other photos that must agree on a point's colour."""
    min_agreement: Fraction = 0.7
    """Fraction of the other photos that see a point which must agree on its colour, 0 to 1."""
    tolerance: NotNegative = 0.25
    """Largest difference in the logarithm of radiance, in any channel, at which two photos agree."""
    min_difference: NotNegative = 0.5
    """Smallest difference in the logarithm of radiance of what hides a point."""


@dataclass(frozen=True)
class AlignConfig:
    """Align the cameras: move each until the rendered scene matches its photo."""

    principal_point: bool = False
    """Also refine principal points and tangential distortion, which photos hardly distinguish from rotations."""
    longest_side: Side = 1000
    """Longer side of the photos at the finest scale, pixels."""
    scales: Annotated[int, Range(1, 12)] = 4
    """Number of image scales, each half as large as the previous one. The coarsest is aligned first."""
    iterations: Natural = 5
    """Maximum number of Gauss-Newton steps at each scale."""
    converged_px: NotNegative = 0.05
    """Stop moving a photo's camera when a step shifts its image by less than this, pixels of the scale."""
    pixels_per_photo: Count = 60_000
    """Maximum number of pixels of a photo that are compared."""
    min_improvement: NotNegative = 0.01
    """Keep a photo's new camera only if its cost fell by at least this fraction."""
    rotation_prior_degrees: Positive = 1.0
    """Expected error of the given rotations, degrees: a prior's standard deviation. Counts where photos show little."""
    translation_prior: Positive = 0.02
    """The same for camera centres, as a fraction of the distance to what the camera sees."""
    rolling_shutter_prior: Positive = 0.25
    """The same for a camera's motion while its rows are read out, as a multiple of the two priors above."""


@dataclass(frozen=True)
class MovePointsConfig:
    """Move points to where the photos show their colours."""

    grouped: bool = True
    """Move neighbouring points together."""
    sizes: tuple[Positive, Positive, Positive] = (0.03, 0.0075, 0.0025)
    """Voxel sizes of the groups that move together, from coarse to fine, as fractions of the scene's extent."""
    iterations: Natural = 6
    """Maximum number of Gauss-Newton steps at each scale of the photos."""
    smoothness: NotNegative = 1.0
    """How strongly neighbouring groups pull each other along, relative to what the photos say about a group."""
    position_prior: Positive = 0.004
    """Expected error of the points, as a fraction of the scene's extent: a prior's standard deviation."""
    individual: bool = False
    """Finally move every point on its own, with damping."""


@dataclass(frozen=True)
class RefineConfig:
    """Refine cameras and points."""

    method: Literal["picture", "gradient"] = "picture"
    """picture: Gauss-Newton on rendered images and photos; gradient: Adam along ADOP's approximate position gradient."""
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    """With method gradient. ghost: ADOP's, for random points left out; bilinear: from footprints of all points."""
    align_every: Count = 200
    """Training steps between two alignments of the cameras."""
    align_photos: Natural = 8
    """Number of photos that are aligned each time. All photos take turns."""
    align_until: Fraction = 0.8
    """Stop aligning cameras after this fraction of the run, 0 to 1."""
    align: AlignConfig = field(default_factory=AlignConfig)
    points: MovePointsConfig = field(default_factory=MovePointsConfig)
