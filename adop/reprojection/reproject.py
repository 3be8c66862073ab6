"""Reprojection as a registered operator: photos looked up at the places that the pixels of views see."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.backend.arguments import ReprojectArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import each_view, launch
from adop.backend.operator import Operator
from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import pose_centres
from adop.ops import Points, project
from adop.ops.environment import RayGrid
from adop.ops.renderer.inputs import SHOWN
from adop.reprojection.photo_table import NONE, PhotoCameras, PhotoTable

SCRATCH = 13  # planes of memory that the kernel needs for a view, as in kernels/reproject.cu
TOLERANCE = 0.02  # share of its depth by which a surface may differ from the one that a photo sees
FAR = 1e30  # depth of what has none, as in kernels/reproject.cu
TABLE = ("pixels", "surfaces", "places")  # what the kernel takes as a PhotoTable has it
MIN_ANGLE, BORDER, MIN_VIGNETTE = 0.02, 0.03, 0.05  # likewise


class Light(NamedTuple):
    """What the values of photos mean: the physical camera, inverted."""

    curve: Tensor  # [L, 3, 256] logarithm of the light on the sensor that a value from 0 to 255 stands for
    gain: Tensor  # [P, 3] logarithm of what each photo's exposure and white balance multiply light by
    vignette: Tensor  # [L, 5] coefficients of r2, r4, r6 and the centre, in half diagonals


class ViewRays(NamedTuple):
    """The tensors of a RayGrid, contiguous and in the depth's precision; names of their own."""

    ray_local: Tensor
    ray_size: Tensor
    ray_crop: Tensor
    ray_pose: Tensor


class ReprojectInputs(NamedTuple):
    """What the operator reads."""

    depth: Tensor
    rays: ViewRays
    chosen: Tensor
    cameras: PhotoCameras
    pixels: Tensor
    surfaces: Tensor
    places: Tensor
    light: Light
    model: str
    depth_along_axis: bool
    far: float


def _empty(inputs: ReprojectInputs) -> Tensor:
    views, _, height, width = inputs.depth.shape
    return inputs.depth.new_empty(views, SHOWN, height, width)


def _reproject(inputs: ReprojectInputs) -> Tensor:
    depth, result = inputs.depth, _empty(inputs)
    views, _, height, width = depth.shape
    count = len(inputs.cameras.intrinsics)
    values: Values = {
        "camera": {
            **inputs.cameras._asdict(),
            "views": count,
            "distortion_size": inputs.cameras.distortion.shape[1],
            "near_depth": 1e-9,
        },
        "rays": {
            "local": inputs.rays.ray_local,
            "photo_size": inputs.rays.ray_size,
            "crop": inputs.rays.ray_crop,
            "world_to_camera": inputs.rays.ray_pose,
            "rows": inputs.rays.ray_local.shape[2],
            "columns": inputs.rays.ray_local.shape[3],
        },
        **inputs.light._asdict(),
        **{name: getattr(inputs, name) for name in ("depth", "chosen", "far", *TABLE)},
        "scratch": depth.new_empty(views, SCRATCH, height, width),
        "shown": result,
        "width": width,
        "height": height,
        "chosen_count": inputs.chosen.shape[1],
        "depth_along_axis": int(inputs.depth_along_axis),
        "tolerance": TOLERANCE,
    }
    series = each_view(f"reproject_{inputs.model}", views, width * height)
    launch(ReprojectArguments, series, values, depth)
    return result


# Photos and depth are no parameters; has no gradient.
reproject_operator = Operator("adop::reproject", _reproject, _empty)


@torch.no_grad()
def reproject(  # noqa: PLR0913 (the view, what it sees, and what is looked up)
    table: PhotoTable,
    chosen: Tensor,
    camera: Camera,
    rays: RayGrid,
    depth: Tensor,
    light: Light,
    far: float,
    backend: Backend = "auto",
) -> Tensor:
    """Return [B, 8, H, W] what photos show at the places that views see.

    A photo shows a place if it sees a surface at the same depth there, or none, as the view. Channels: the logarithm of
    the light (3) in the photo that counts most, 1 or, where no photo shows the place, 0; the mean over the photos (3),
    and the share of the chosen photos that show it. A photo counts the more, the smaller the angle between it and the
    view, and less near its border.

    Args:
        chosen: [B, K] rows of the table, -1: none.
        camera: B views; rays: theirs. A rolling shutter of theirs turns the rays, but does not move their origin.
        depth: [B, 1, H, W], infinite where no surface is.
        far: distance that stands for infinitely far, scene units.

    No gradient. **Source** image-based rendering: Buehler et al. 2001, unstructured lumigraph; Riegler and Koltun 2020,
    free view synthesis, which feeds a network with photos warped by depth.
    """
    along_axis = camera.model == "opencv"
    parts = (table.cameras, table.pixels, table.surfaces, table.places, light, table.model, along_axis, far)
    grid = (rays.local, rays.size, rays.crop, rays.world_to_camera)
    own = ViewRays(*(part.to(depth.dtype).contiguous() for part in grid))
    inputs = ReprojectInputs(depth.contiguous(), own, chosen.contiguous(), *parts)
    if choose_backend(backend, depth.device) == "reference":
        return _reproject_reference(inputs)
    return reproject_operator(inputs)


def _reproject_reference(inputs: ReprojectInputs) -> Tensor:
    """Look photos up in plain torch."""
    views = []
    for view, depth in enumerate(inputs.depth):
        places, directions = _places(inputs, view)
        rows = [row for row in inputs.chosen[view].tolist() if row != NONE]
        photos = [_look_up(inputs, row, places, directions, depth) for row in rows]
        views.append(_merged(photos, inputs.chosen.shape[1], depth))
    return torch.stack(views)


def _places(inputs: ReprojectInputs, view: int) -> tuple[Tensor, Tensor]:
    """Return the places [H W, 3] that a view's pixels see, and their unit directions [H W, 3] from the camera."""
    depth, rays = inputs.depth[view, 0], inputs.rays
    centres = [torch.arange(count).to(depth) + 0.5 for count in depth.shape]
    v, u = torch.meshgrid(*centres, indexing="ij")
    full = (torch.stack((u, v), -1) + rays.ray_crop[view, 1:]) / rays.ray_crop[view, 0]
    position = 2 * full / rays.ray_size[view] - 1
    grid = rays.ray_local[view : view + 1]
    local = F.grid_sample(grid, position[None], "bilinear", "border", align_corners=True)[0].flatten(1).T
    local = F.normalize(local, dim=1)
    z, near = depth.flatten(), depth.flatten() < FAR
    distance = torch.where(near, z / local[:, 2] if inputs.depth_along_axis else z, inputs.far)
    pose = rays.ray_pose[view : view + 1]
    directions = local @ pose[0, :3, :3]
    return pose_centres(pose) + directions * distance[:, None], directions


def _look_up(
    inputs: ReprojectInputs, row: int, places: Tensor, directions: Tensor, depth: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a photo's light [3, M] at places, by how much each counts [M], and how well the surfaces agree [M]."""
    begin, surface_begin, width, height, lens = inputs.places[row].tolist()
    uv, z, visible = _project(inputs, row, places, (width, height))
    seen = F.normalize(places - pose_centres(inputs.cameras.world_to_camera[row : row + 1]), dim=1)
    border = torch.minimum(uv, uv.new_tensor([width, height]) - uv).amin(1)
    inner = (border / (BORDER * min(width, height))).clamp(0, 1)
    counts = torch.where(visible, inner / ((directions - seen).norm(dim=1) + MIN_ANGLE), 0.0)
    uv = torch.where(visible[:, None], uv, 0.0)
    columns, rows = (width + 1) // 2, (height + 1) // 2
    surface = inputs.surfaces[surface_begin:][: columns * rows].reshape(rows, columns)
    at = (uv / 2).long()
    found = surface[at[:, 1].clamp_max(rows - 1), at[:, 0].clamp_max(columns - 1)]
    near = depth.flatten() < FAR
    agrees = torch.where(near, (2 - (z - found).abs() / (TOLERANCE * z)).clamp(0, 1), (found >= FAR).to(z))
    agrees = torch.where(counts * agrees > 1e-6, agrees, 0.0)
    pixels = inputs.pixels[begin:][: 3 * width * height].reshape(1, height, width, 3).permute(0, 3, 1, 2)
    size = uv.new_tensor([width, height])
    position = (2 * uv / size - 1)[None, None]
    values = F.grid_sample(pixels.to(uv), position, "bilinear", "border", align_corners=False)[0, :, 0]
    low = values.long().clamp_max(254)
    curve = inputs.light.curve[lens]
    light = curve.gather(1, low).lerp(curve.gather(1, low + 1), values - low)
    a, b, c, *centre = inputs.light.vignette[lens]
    from_centre = (uv - size / 2) / (size.norm() / 2) - torch.stack(centre)
    r2 = from_centre.square().sum(1)
    dark = (1 + r2 * (a + r2 * (b + r2 * c))).clamp_min(MIN_VIGNETTE).log()
    return light - inputs.light.gain[row][:, None] - dark, counts * agrees, agrees


def _project(
    inputs: ReprojectInputs, row: int, places: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels [M, 2] of places in a photo, their depth [M], and whether they lie in it [M]."""
    cameras, one = inputs.cameras, slice(row, row + 1)
    motion, height = None, None
    if cameras.shutter is not None:
        motion, height = cameras.shutter[one, :6], cameras.shutter[one, 6]
    lens = (cameras.intrinsics[one], cameras.distortion[one])
    parts = (*lens, cameras.world_to_camera[one], cameras.crop[one])
    camera = Camera(inputs.model, *size, *parts, motion, height)  # type: ignore[arg-type]
    seen = project(camera, Points(places, torch.zeros_like(places[:, 0])), 1e-9, "reference")
    return seen.uv[0], seen.z[0], seen.visible[0]


def _merged(photos: list[tuple[Tensor, Tensor, Tensor]], count: int, depth: Tensor) -> Tensor:
    """Return [8, H, W] of the light [3, M], weights [M] and agreements [M] of photos, see `reproject`."""
    if not photos:
        return depth.new_zeros(SHOWN, *depth.shape[1:])
    light, weight, agreement = (torch.stack(parts) for parts in zip(*photos, strict=True))
    best = weight.argmax(0)
    any_ = weight.amax(0) > 0
    nearest = light.gather(0, best[None, None].expand(1, 3, -1))[0]
    mean = (light * weight[:, None]).sum(0) / weight.sum(0).clamp_min(1e-30)
    parts = [torch.where(any_, nearest, 0.0), any_[None].to(light), torch.where(any_, mean, 0.0)]
    parts.append(agreement.sum(0)[None] / count)
    return torch.cat(parts).reshape(SHOWN, *depth.shape[1:])
