"""Random scenes for the ops, with no point near a pixel edge, so that all backends must agree to rounding."""

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_exp
from adop.ops import HARMONIC_COEFFICIENTS, Levels, Points, RasterConfig, draw, reference

LENSES = {
    "opencv": [-0.12, 0.03, 0.001, -0.002, 0.004, 0.01, -0.005, 0.001],
    "fisheye": [0.02, -0.01, 0.004, -0.001],
    # t + 0.05 t^2 - 0.02 t^3 of the angle t from the axis, written in the angle above the image plane
    "ocam": [1.01, 0.002, -0.003, 0.4, 1.6166507, 1.0090356, -0.0442478, -0.02, *([0.0] * 12)],
}
LEAVES = ("features", "background", "xyz", "world_to_camera", "intrinsics", "distortion")


@dataclass(frozen=True)
class Scene:
    """The arguments of `draw`."""

    camera: Camera
    points: Points
    features: Tensor
    background: Tensor
    ghosts: Tensor
    config: RasterConfig

    def leaves(self) -> dict[str, Tensor]:
        """Return the tensors that may have a gradient, by name."""
        camera = self.camera
        values = (self.features, self.background, self.points.xyz)
        values += (camera.world_to_camera, camera.intrinsics, camera.distortion)
        return dict(zip(LEAVES, values, strict=True))

    def with_leaves(self, leaves: dict[str, Tensor]) -> "Scene":
        """Return the scene with other tensors, see `leaves`."""
        names = ("world_to_camera", "intrinsics", "distortion")
        camera = replace(self.camera, **{name: leaves[name] for name in names})
        points = replace(self.points, xyz=leaves["xyz"])
        return replace(
            self, camera=camera, points=points, features=leaves["features"], background=leaves["background"]
        )


def make_camera(
    model: str, views: int, width: int, height: int, dtype: torch.dtype = torch.float32
) -> Camera:
    """Return views that look at the origin from about 3 units away, each slightly moved from the last."""
    generator = torch.Generator().manual_seed(width * 100 + height)
    twist = torch.randn(views, 6, generator=generator, dtype=torch.float64) * 0.1
    twist[:, 2] += 3.0
    focal = 0.9 * max(width, height)
    lens = torch.tensor(LENSES[model], dtype=torch.float64)
    if model == "ocam":
        lens[4:] *= focal
    intrinsics = torch.tensor([focal, focal * 1.01, width / 2 + 0.3, height / 2 - 0.2], dtype=torch.float64)
    crop = torch.tensor([1.1, 0.05 * width, 0.06 * height], dtype=torch.float64)
    return Camera(
        model,  # type: ignore[arg-type]
        width,
        height,
        intrinsics.repeat(views, 1),
        lens.repeat(views, 1),
        se3_exp(twist),
        crop.repeat(views, 1),
    ).to(dtype=dtype)


def make_scene(  # noqa: PLR0913 (a test names the few values that matter to it)
    model: str = "opencv",
    views: int = 1,
    points: int = 300,
    width: int = 37,
    height: int = 29,
    channels: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    normals: bool = False,
    levels: int = 4,
    harmonics: bool = False,
) -> Scene:
    """Return points around the origin, some behind or beside the cameras, none near a pixel edge."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    camera = make_camera(model, views, width, height, torch.float64)
    spread = torch.tensor([3.5, 3.0, 2.0], dtype=torch.float64)
    xyz = (random(4 * points, 3) - 0.5) * spread
    xyz[::17, 2] -= 4.0  # behind the cameras
    xyz = keep_off_edges(camera, xyz)[:points]
    count = len(xyz)
    radius = 0.02 * (1 / random(count).clamp_min(1e-3)).sqrt()
    facing = torch.nn.functional.normalize(random(count, 3) - 0.5, dim=1) if normals else None
    cloud = Points(xyz.to(dtype), radius.to(dtype), None if facing is None else facing.to(dtype))
    features, background = random(count, channels).to(dtype), random(channels).to(dtype)
    ghosts = random(views, count) < 0.3
    if harmonics:
        coefficients = random(count, HARMONIC_COEFFICIENTS) - 0.5
        features = torch.cat((features, coefficients.to(dtype)), 1)
    config = RasterConfig(levels=levels, harmonics=harmonics)
    return Scene(camera.to(dtype=dtype), cloud, features, background, ghosts, config)


def keep_off_edges(camera: Camera, xyz: Tensor, margin: float = 0.01) -> Tensor:
    """Drop the points that land within `margin` px of a pixel edge in any view."""
    projection = reference.project(camera, Points(xyz, torch.ones_like(xyz[:, 0])), 0.01)
    fraction = projection.uv - projection.uv.floor()
    inside = ((fraction > margin) & (fraction < 1 - margin)).all(2)
    return xyz[(inside | ~projection.visible).all(0)]


def draw_with_gradients(scene: Scene, backend: str, ghosts: bool = True) -> tuple[Levels, dict[str, Tensor]]:
    """Draw; return the levels, and by name of each leaf the gradient of a fixed random weighting of all levels."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in scene.leaves().items()}
    s = scene.with_leaves(leaves)
    seen = s.ghosts if ghosts else None
    levels = draw(s.camera, s.points, s.features, s.config, s.background, seen, backend=backend)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=scene.features.dtype)
    for image in levels.features:
        loss = (
            loss
            + (image * torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)).sum()
        )
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), gradients, strict=True)
    return levels, {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in pairs}


@st.composite
def scenes(pick: st.DrawFn) -> Scene:
    """Scenes of any model, size, number of views, points, channels and levels."""
    channels = pick(st.integers(1, 9))
    return make_scene(
        model=pick(st.sampled_from(sorted(LENSES))),
        views=pick(st.integers(1, 3)),
        points=pick(st.integers(0, 200)),
        width=pick(st.integers(1, 70)),
        height=pick(st.integers(1, 70)),
        channels=channels,
        harmonics=channels >= 3 and pick(st.booleans()),
        seed=pick(st.integers(0, 2**16)),
        normals=pick(st.booleans()),
        levels=pick(st.integers(1, 6)),
    )
