"""project by kernels compared with plain torch."""

from dataclasses import replace

import torch

from adop.ops import Points, Projection, project
from support.compare import assert_same_gradients
from support.strategies import Scene


def project_as_the_oracle(scene: Scene, backend: str) -> Projection:
    """Project, compare values and gradients with plain torch, and return the projection of plain torch."""
    results = {}
    for which in ("reference", backend):
        device = "cuda" if which == "cuda" else "cpu"
        camera = scene.camera.to(device=device)
        leaves = [scene.points.xyz, camera.world_to_camera, camera.intrinsics, camera.distortion]
        leaves = [leaf.to(device).clone().requires_grad_() for leaf in leaves]
        camera = replace(camera, world_to_camera=leaves[1], intrinsics=leaves[2], distortion=leaves[3])
        normals = scene.points.normals
        points = Points(
            leaves[0], scene.points.radius.to(device), None if normals is None else normals.to(device)
        )
        p = project(camera, points, backend=which)  # type: ignore[arg-type]
        weight = torch.linspace(-1, 1, p.uv.numel(), device=device).reshape(p.uv.shape)
        gradients = torch.autograd.grad((p.uv * weight).sum() + (p.z * weight[..., 0]).sum(), leaves)
        names = ("xyz", "pose", "intrinsics", "distortion")
        results[which] = (p, {n: g.cpu() for n, g in zip(names, gradients, strict=True)})
    (p, g), (q, h) = results[backend], results["reference"]
    assert torch.equal(p.visible.cpu(), q.visible)
    assert 0.1 < q.visible.double().mean() < 0.9
    for a, b in ((p.uv, q.uv), (p.z, q.z), (p.radius_px, q.radius_px)):
        torch.testing.assert_close(a.cpu(), b, rtol=2e-5, atol=2e-4)
    assert_same_gradients(g, h)
    return q
