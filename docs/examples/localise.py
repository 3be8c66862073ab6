"""Find where a photo was taken, in a trained scene, by Gauss-Newton on the rendered image.

    python docs/examples/localise.py RUN [PHOTO]

The example rotates the photo's camera by about a degree, shifts it by about 2 % of the distance to what it sees, and
finds the original camera again. The network is convolutional: when a surface point moves, the image moves with it. The
derivative of the image by the camera is therefore the image gradient times the motion of the surface points, which
follows from `adop.project`.
"""

from __future__ import annotations

import dataclasses
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

import adop
from adop.geometry.rigid_motion import se3_exp
from adop.run.run import Run

SCALE = 0.5  # size of the images that are compared, relative to the photo
BLURS = (6.0, 6.0, 3.0, 3.0, 1.5, 1.5, 1.5)  # standard deviation of the blur at each iteration, px
STEP = 1e-4  # of the twist, for its numerical derivative


def moved(camera: adop.Camera, twist: Tensor) -> adop.Camera:
    """Return the camera after a small motion: a twist [6] in camera axes, translation first."""
    pose = se3_exp(twist.double()[None]) @ camera.world_to_camera.double()
    return dataclasses.replace(camera, world_to_camera=pose.float())


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return an image [1, C, H, W] blurred by a Gaussian of standard deviation `sigma`, pixels."""
    reach = math.ceil(3 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, -1)
    image = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    image = F.conv2d(image, kernel[:, :, None], groups=image.shape[1])
    return F.conv2d(image, kernel[:, :, :, None], groups=image.shape[1])


def motions(camera: adop.Camera, points: Tensor, scale: float) -> Tensor:
    """Return the derivative of uv by the twist, [N, 2, 6], of world points [N, 3]; translations in units of `scale`."""
    cloud = adop.Points(points, torch.full((len(points),), 1e6))
    columns = []
    for axis in range(6):
        twist = torch.zeros(6)
        twist[axis] = STEP * (scale if axis < 3 else 1.0)
        ahead = adop.project(moved(camera, twist), cloud, near=1e-6).uv[0]
        behind = adop.project(moved(camera, -twist), cloud, near=1e-6).uv[0]
        columns.append((ahead - behind) / (2 * STEP))
    return torch.stack(columns, dim=-1)


def localise(run: Run, photo: Tensor, camera: adop.Camera, settings: adop.CameraSettings) -> adop.Camera:
    """Return the camera of a photo [1, 3, H, W] in [0, 1], starting from a nearby one; lens and size do not change."""
    ys, xs = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    pixels = torch.stack((xs, ys), dim=-1).reshape(1, -1, 2) + 0.5
    for sigma in BLURS:
        view = run.render(camera, settings)
        seen = view.mask[0].reshape(-1)
        depth = view.depth.reshape(1, -1)
        points = camera.unproject(pixels[:, seen], depth[:, seen])[0]
        scale = float(depth[0, seen].median())
        render, target = blurred(view.image, sigma), blurred(photo, sigma)
        gain = (render * target).sum((2, 3), keepdim=True) / render.square().sum((2, 3), keepdim=True)
        render = render * gain
        gy, gx = torch.gradient(0.5 * (render + target), dim=(2, 3))
        slopes = torch.stack((gx, gy), dim=-1).reshape(3, -1, 2)[:, seen]
        jacobian = torch.einsum("cnk,nkt->cnt", slopes, motions(camera, points, scale)).reshape(-1, 6)
        error = (render - target).reshape(3, -1)[:, seen].reshape(-1)
        weight = 1 / (1 + (error / 0.05) ** 2)  # things that only the photo shows count little
        normal = (jacobian * weight[:, None]).T @ jacobian
        twist = torch.linalg.solve(
            normal + 1e-6 * normal.diagonal().mean() * torch.eye(6), (jacobian * weight[:, None]).T @ error
        )
        twist[:3] *= scale
        camera = moved(camera, twist)
    return camera


def distance(one: adop.Camera, other: adop.Camera) -> tuple[float, float]:
    """Return the angle (degrees) and the distance (scene units) between two cameras."""
    turn = one.world_to_camera[0, :3, :3].double() @ other.world_to_camera[0, :3, :3].double().T
    angle = math.degrees(math.acos(min(1.0, (float(turn.trace()) - 1) / 2)))
    return angle, float((one.centre() - other.centre()).norm())


def main() -> None:
    """Move a photo's camera away and find it again."""
    run = adop.load(sys.argv[1] if len(sys.argv) > 1 else "runs/demo", device="cpu")
    name = sys.argv[2] if len(sys.argv) > 2 else run.scene.photos[run.split["held_out"][0]].name
    true = run.photo_camera(name).scaled(SCALE)
    index = [photo.name for photo in run.scene.photos].index(name) if not name.isdigit() else int(name)
    photo = F.interpolate(run.cache.image(index, torch.device("cpu")), (true.height, true.width), mode="area")
    depth = run.render(true).depth
    far = float(depth[torch.isfinite(depth)].median())
    start = moved(true, torch.tensor([0.02 * far, -0.01 * far, 0.0, 0.01, math.radians(0.8), 0.0]))
    found = localise(run, photo, start, run.photo_settings(index))
    for label, camera in (("start", start), ("found", found)):
        angle, shift = distance(camera, true)
        print(
            f"{label}: {angle:.3f} degrees and {100 * shift / far:.3f} % of the distance from the true camera"
        )


if __name__ == "__main__":
    main()
