"""The refined cameras of a run, as other programs take them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import rigid
from adop.run.render import refined_scene
from adop.run.run import Run

# Names of the distortion coefficients of the models that other programs have too.
DISTORTION_NAMES = {"opencv": "k1 k2 p1 p2 k3 k4 k5 k6", "fisheye": "k1 k2 k3 k4"}


def refined_lenses(run: Run) -> list[Lens]:
    """Return the scene's lenses with the intrinsics and distortion that were learned."""
    return list(refined_scene(run).lenses)


def refined_poses(run: Run, offset: np.ndarray) -> np.ndarray:
    """Return world_to_camera [P, 4, 4] f64 of all photos, in the scene's coordinates plus an offset [3]."""
    poses = [photo.world_to_camera for photo in refined_scene(run).photos]
    return np.stack([rigid(pose[:3, :3], pose[:3, 3] - pose[:3, :3] @ offset) for pose in poses])


def lens_parameters(lens: Lens) -> dict[str, float]:
    """Return fx fy cx cy (pixels, centre of the first pixel at 0.5) and the coefficients of an opencv or fisheye lens."""
    names = f"fx fy cx cy {DISTORTION_NAMES[lens.model]}".split()
    return dict(zip(names, [*lens.intrinsics.tolist(), *lens.distortion.tolist()], strict=True))


def camera_notes(run: Run, program: str) -> Iterator[str]:
    """Yield sentences on which poses were refined, and on what a program's cameras cannot express."""
    photos = run.scene.photos
    poses = refined_poses(run, np.zeros(3))
    given = [
        i for i, pose in enumerate(poses) if np.allclose(pose, photos[i].world_to_camera, rtol=0, atol=1e-12)
    ]
    whose = ", those of the held-out photos" if given and given == run.split["held_out"] else ""
    yield f"poses: {len(photos) - len(given)} refined, {len(given)} as given in the scene{whose}"
    moving = int(run.pipeline.cameras.motion.any(1).sum())
    if moving:
        yield (
            f"rolling shutter: {moving} photos were taken by a moving camera, which {program} cannot express; "
            "their poses are those of the middle row"
        )
