"""Depth in holes from stereo, against surfaces of known depth."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from adop.config import GrowConfig
from adop.geometry.camera import Camera
from adop.initialisation.reduced_photos import ReducedPhoto
from adop.initialisation.stereo import choose_sources, consistent_depths, depth_map, photo_pyramid

WIDTH, HEIGHT, FOCAL = 120, 90, 110.0
FILL_LEVELS = 2


def camera_at(x: float, y: float = 0.0) -> Camera:
    pose = torch.eye(4)
    pose[0, 3], pose[1, 3] = -x, -y
    return Camera.from_intrinsics(WIDTH, HEIGHT, focal=FOCAL, world_to_camera=pose[None].numpy())


def pattern(x: Tensor, y: Tensor) -> Tensor:
    """Return log radiance [3, ...] of a texture without repetition."""
    random = torch.Generator().manual_seed(0)
    waves = torch.rand(30, 3, generator=random) * torch.tensor([16.0, 16.0, 6.3]) - torch.tensor(
        [8.0, 8.0, 0.0]
    )
    light = sum(torch.sin(a * x + b * y + c) for a, b, c in waves) / 15
    return torch.stack((light - 1.0, light - 1.1, light - 0.9))


def slanted_plane(rays: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return the depth [N] of the plane z = 4 + 0.4 x along rays of depth 1, and its log radiance."""
    z = (4 + 0.4 * centre[0]) / (1 - 0.4 * rays[:, 0])
    xyz = centre + rays * z[:, None]
    return z, pattern(xyz[:, 0], xyz[:, 1])


def sky(rays: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return infinite depth, and a texture as fine as the plane's."""
    return torch.full_like(rays[:, 0], torch.inf), pattern(4 * rays[:, 0], 4 * rays[:, 1])


def view_of(
    world: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], camera: Camera, clipped: bool = False
) -> tuple[ReducedPhoto, Tensor]:
    """Return a photo whose points are missing in its middle, and the true depth [h, w]."""
    blank = torch.zeros(1, 1, HEIGHT, WIDTH)
    view = ReducedPhoto(camera, blank.repeat(1, 3, 1, 1), blank + 1, (blank + clipped).bool(), blank)
    z, light = world(view.rays(), camera.centre()[0])
    true = z.reshape(HEIGHT, WIDTH)
    near, _ = slanted_plane(view.rays(), camera.centre()[0])
    drawn = near.reshape(HEIGHT, WIDTH).clone()  # the points around the hole always lie on the plane
    drawn[20:70, 30:90] = torch.inf
    light = light.reshape(1, 3, HEIGHT, WIDTH)
    return ReducedPhoto(camera, light, view.mask, view.clipped, drawn[None, None]), true


def views_of(world, clipped: bool = False) -> tuple[dict[int, ReducedPhoto], dict[int, Tensor]]:
    cameras = [camera_at(0.25 * i, 0.1 * (i % 2)) for i in range(-2, 3)]
    both = [view_of(world, camera, clipped) for camera in cameras]
    return {i: view for i, (view, _) in enumerate(both)}, {i: true for i, (_, true) in enumerate(both)}


def test_the_depth_of_a_slanted_plane_is_found():
    views, true = views_of(slanted_plane)
    config = GrowConfig()
    maps = {photo: depth_map(photo_pyramid(views), photo, FILL_LEVELS, config) for photo in views}
    depths = maps[2]
    assert depths is not None
    hole = views[2].holes(FILL_LEVELS)[0, 0]
    assert hole.sum() > 2000 and depths.found.sum() > 0.9 * hole.sum()
    error = (1 / depths.inverse_depth / true[2] - 1).abs()[depths.found]
    assert error.median() < 0.015 and error.quantile(0.9) < 0.04
    # The other photos confirm the true depths, and not those that are a tenth smaller.
    rays = views[2].rays()[depths.found.flatten()]
    z = true[2][depths.found][:, None]
    found = {photo: part for photo, part in maps.items() if part is not None}
    centre = views[2].camera.centre()
    assert consistent_depths(found, views, 2, centre + rays * z).float().mean() > 0.9
    assert consistent_depths(found, views, 2, centre + rays * z * 0.9).float().mean() < 0.05


@pytest.mark.parametrize(("world", "clipped"), [(sky, False), (slanted_plane, True)])
def test_nothing_is_found_in_the_sky_or_in_clipped_photos(world, clipped: bool):
    views, _ = views_of(world, clipped)
    depths = depth_map(photo_pyramid(views), 2, FILL_LEVELS, GrowConfig())
    assert depths is None or depths.found.sum() < 0.04 * views[2].holes(FILL_LEVELS).sum()


def test_source_photos_are_chosen_by_angle_and_overlap():
    """Neither a photo from almost the same position nor one that sees something else, but those some degrees apart."""
    views = {i: view_of(slanted_plane, camera_at(x))[0] for i, x in enumerate((0.0, 0.01, 0.4, 0.5, 9.0))}
    ahead = torch.tensor([[0.0, 0.0, 4.0], [0.2, 0.1, 4.0]])
    assert set(choose_sources(views, 0, ahead, 2)) == {2, 3}
    assert 4 not in choose_sources(views, 0, ahead, 6)
