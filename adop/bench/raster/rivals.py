"""Other programs that draw points, each timed if it is installed.

A rival draws one level; the rasterizer draws a pyramid of four and blends the points of a pixel.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from adop.bench.raster.scene import HEIGHT, WIDTH, BenchScene
from adop.errors import UserError
from adop.scene.visibility import import_open3d

Run = Callable[[], object]


@dataclass(frozen=True)
class Rival:
    """A program to compare with.

    `prepare` returns the function to time and a note on what it draws, or None and the reason why it cannot run here.
    """

    name: str
    prepare: Callable[[BenchScene], tuple[Run | None, str]]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


_VERTEX = """
#version 330
in vec3 position; in vec4 feature; out vec4 colour; uniform vec4 lens; uniform vec2 size;
void main() {
    vec2 pixel = lens.xy * position.xy / position.z + lens.zw;
    vec2 ndc = pixel / size * 2.0 - 1.0;
    float depth = (position.z - 0.1) / 99.9 * 2.0 - 1.0;
    gl_Position = vec4(ndc * position.z, depth * position.z, position.z);
    gl_PointSize = 1.0; colour = feature;
}
"""
_FRAGMENT = """
#version 330
in vec4 colour; out vec4 result;
void main() { result = colour; }
"""


def opengl(scene: BenchScene) -> tuple[Run | None, str]:
    """Draw points of one pixel by OpenGL with a depth buffer; no blending, no pyramid, no lens distortion."""
    if not _installed("moderngl"):
        return None, "not installed: pip install moderngl"
    import moderngl

    settings: dict[str, Any] = {"standalone": True, "backend": "egl"}
    context = moderngl.create_context(**settings)
    program = context.program(_VERTEX, _FRAGMENT)
    fx, fy, cx, cy = scene.camera.intrinsics[0].tolist()
    program["lens"], program["size"] = (fx, fy, cx, cy), (float(WIDTH), float(HEIGHT))
    packed = torch.cat((scene.points.xyz, scene.features), 1).cpu().numpy().tobytes()
    vertices = context.buffer(packed)
    array = context.vertex_array(program, [(vertices, "3f 4f", "position", "feature")])
    target = context.framebuffer(
        [context.renderbuffer((WIDTH, HEIGHT), 4, dtype="f4")], context.depth_renderbuffer((WIDTH, HEIGHT))
    )
    target.use()
    context.enable(moderngl.DEPTH_TEST)

    def run() -> None:
        target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        array.render(moderngl.POINTS)
        context.finish()

    run()
    drawn = torch.frombuffer(bytearray(target.read(components=4, dtype="f4")), dtype=torch.float32)
    covered = float((drawn.reshape(-1, 4).abs().sum(1) > 0).float().mean())
    return run, f"{context.info['GL_RENDERER']}; one level, nearest point, no blending; covers {covered:.0%}"


def pytorch3d(scene: BenchScene) -> tuple[Run | None, str]:
    """Rasterize the nearest point of each pixel by PyTorch3D, with points of one pixel."""
    if not _installed("pytorch3d"):
        return None, "not installed: PyTorch3D"
    from pytorch3d.renderer.points.rasterize_points import rasterize_points
    from pytorch3d.structures import Pointclouds

    fx, fy, cx, cy = scene.camera.intrinsics[0]
    x, y, z = scene.points.xyz.unbind(1)
    half = min(WIDTH, HEIGHT) / 2
    u, v = fx * x / z + cx, fy * y / z + cy
    ndc = torch.stack(((WIDTH / 2 - u) / half, (HEIGHT / 2 - v) / half, z), 1)
    cloud = Pointclouds([ndc])
    return lambda: rasterize_points(
        cloud, (HEIGHT, WIDTH), 0.5 / half, 1
    ), "one level, points already projected"


def gsplat(scene: BenchScene) -> tuple[Run | None, str]:
    """Render small isotropic Gaussians by gsplat."""
    if not _installed("gsplat"):
        return None, "not installed: gsplat"
    if not torch.cuda.is_available():
        return None, "gsplat needs a CUDA GPU"
    from gsplat import rasterization

    count = len(scene.features)
    means, colours = scene.points.xyz.cuda(), scene.features.cuda()
    quaternions = torch.tensor([[1.0, 0.0, 0.0, 0.0]], device="cuda").expand(count, 4).contiguous()
    scales, opacities = torch.full((count, 3), 0.005, device="cuda"), torch.ones(count, device="cuda")
    fx, fy, cx, cy = scene.camera.intrinsics[0].tolist()
    k = torch.tensor([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]], device="cuda")
    pose = scene.camera.world_to_camera.cuda()

    splats = (means, quaternions, scales, opacities, colours)
    return lambda: rasterization(*splats, pose, k, WIDTH, HEIGHT), "one level, Gaussians of 5 mm, on the GPU"


def open3d(scene: BenchScene) -> tuple[Run | None, str]:
    """Draw points of one pixel by Open3D's renderer."""
    if not _installed("open3d"):
        return None, "not installed: Open3D"
    import numpy as np

    try:
        o3d = import_open3d("to draw by its renderer")
    except UserError as error:
        return None, str(error)
    try:
        renderer = o3d.visualization.rendering.OffscreenRenderer(WIDTH, HEIGHT)
    except RuntimeError as error:
        return None, f"Open3D's renderer cannot start here: {str(error).splitlines()[0]}"
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(scene.points.xyz.double().cpu().numpy()))
    cloud.colors = o3d.utility.Vector3dVector(scene.features[:, :3].double().cpu().numpy())
    material = o3d.visualization.rendering.MaterialRecord()
    material.shader, material.point_size = "defaultUnlit", 1.0
    renderer.scene.add_geometry("cloud", cloud, material)
    fx, fy, cx, cy = scene.camera.intrinsics[0].tolist()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    renderer.setup_camera(matrix, np.eye(4), WIDTH, HEIGHT)
    return renderer.render_to_image, "one level, image copied back to the CPU"


RIVALS = (
    Rival("OpenGL points", opengl),
    Rival("PyTorch3D points", pytorch3d),
    Rival("gsplat", gsplat),
    Rival("Open3D renderer", open3d),
)
