"""`--stereo colmap`: the workspace that COLMAP is given, what its fusion makes of it, and where it cannot run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adop.__main__ import _run
from adop.cli.capture import capture_command, densify_command
from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.scene.photo_cache import PhotoCache
from adop.scene.write import save_scene
from adop.stereo.colmap_stereo import fuse_workspace, write_workspace
from adop.stereo.densify_scene import densify_scene
from adop.stereo.depth_maps import StereoScene
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import find_neighbourhoods
from support.stereo_scenes import DISTANCE, NORMAL, photographed_plane, true_planes

pycolmap = pytest.importorskip("pycolmap")

INTRINSICS = np.array([100.0, 104.0, 49.0, 41.0])
LENSES = {
    "opencv": Lens("opencv", 100, 80, INTRINSICS, np.array([-0.1, 0.02, 2e-3, -1e-3, 0, 0, 0, 0])),
    "fisheye": Lens("fisheye", 100, 80, INTRINSICS, np.array([0.05, -0.01, 0.0, 0.0])),
}
NO_CUDA = "needs a pycolmap that was built with CUDA, which this one was not: pip uninstall pycolmap"


def stereo_of(folder: Path, lens: Lens) -> StereoScene:
    scene = photographed_plane(folder / "photos", lens)
    config = StereoConfig(method="colmap", keep_points=False)
    return StereoScene(scene, PhotoCache(scene), find_neighbourhoods(scene, 4), config, folder / "work")


def write_map(file: Path, values: np.ndarray) -> None:
    """Write values [H, W, C] in COLMAP's format: sizes as text, then rows of each channel in turn, float32."""
    height, width, channels = values.shape
    data = np.moveaxis(values, -1, 0).astype("<f4").tobytes()
    file.write_bytes(f"{width}&{height}&{channels}&".encode() + data)


def write_true_maps(stereo: StereoScene, workspace: Path) -> None:
    """Write the depths and normals of the plane as COLMAP's PatchMatch would."""
    for photo in stereo.neighbourhoods:
        view = stereo.view(photo).view
        depth = (1 / true_planes(view)[0]).numpy()
        normal = view.world_to_camera[:3, :3].numpy() @ -np.array(NORMAL) / np.linalg.norm(NORMAL)
        name = f"{photo:05d}.png.geometric.bin"
        write_map(workspace / "stereo/depth_maps" / name, depth[..., None])
        write_map(workspace / "stereo/normal_maps" / name, np.broadcast_to(normal, (*depth.shape, 3)))


@pytest.mark.parametrize("model", LENSES)
def test_pixels_of_the_workspace_show_what_the_photos_show_there(model, tmp_path):
    stereo = stereo_of(tmp_path, LENSES[model])
    write_workspace(stereo, tmp_path / "dense")
    cameras = pycolmap.Reconstruction(tmp_path / "dense" / "sparse")
    assert len(cameras.images) == 5
    for image in cameras.images.values():
        photo = int(Path(image.name).stem)
        pixels = np.asarray(Image.open(tmp_path / "dense/images" / image.name))[..., 0].astype(float)
        counts = np.asarray(Image.open(tmp_path / "dense/masks" / image.name)) > 0
        rows, columns = np.nonzero(counts)
        # COLMAP's stereo takes the centre of the first pixel for (0, 0).
        rays = np.column_stack(
            (image.camera.cam_from_img(np.column_stack((columns, rows)).astype(float)), np.ones(len(rows)))
        )
        world = (rays - image.cam_from_world().translation) @ image.cam_from_world().rotation.matrix()
        lens, pose = stereo.scene.views[photo]
        uv, _, inside = lens.project(world @ pose[:3, :3].T + pose[:3, 3])
        original = PhotoCache(stereo.scene).image(photo, torch.device("cpu"))[:, :1]
        grid = torch.from_numpy(2 * uv / [lens.width, lens.height] - 1).float()[None, None]
        there = torch.nn.functional.grid_sample(original, grid, padding_mode="border", align_corners=False)[
            0, 0, 0
        ].numpy()
        assert inside.mean() > 0.999 and 0.7 < counts.mean() <= 1
        assert np.abs(255 * there - pixels[rows, columns])[inside].max() < 1.5


@pytest.mark.parametrize("model", LENSES)
def test_colmap_fuses_true_depths_to_points_on_the_surface(model, tmp_path):
    stereo = stereo_of(tmp_path, LENSES[model])
    workspace = tmp_path / "dense"
    write_workspace(stereo, workspace)
    write_true_maps(stereo, workspace)
    points = fuse_workspace(workspace, stereo.config)
    assert len(points.xyz) > 1500
    normal = np.array(NORMAL) / np.linalg.norm(NORMAL)
    distance = np.abs(points.xyz @ normal - DISTANCE / np.linalg.norm(NORMAL))
    assert np.median(distance) < 1e-3  # with pixels half a pixel off it is five times that
    np.testing.assert_allclose(points.normals @ normal, -1, atol=1e-4)


def test_the_workspace_names_the_neighbours_of_each_photo_and_points_that_photos_share(tmp_path):
    stereo = stereo_of(tmp_path, LENSES["opencv"])
    write_workspace(stereo, tmp_path / "dense")
    lines = (tmp_path / "dense/stereo/patch-match.cfg").read_text().splitlines()
    found = {
        int(name[:5]): tuple(int(s[:5]) for s in sources.split(", "))
        for name, sources in zip(lines[::2], lines[1::2], strict=True)
    }
    assert found == {photo: near.sources for photo, near in stereo.neighbourhoods.items()}
    model = pycolmap.Reconstruction(tmp_path / "dense" / "sparse")
    assert len(model.points3D) > 200 and model.compute_mean_track_length() > 3
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            expected = image.project_point(point.xyz)
            np.testing.assert_allclose(image.points2D[element.point2D_idx].xy, expected, atol=1e-3)


def test_maps_that_an_interruption_cut_off_are_made_anew_and_whole_ones_are_kept(tmp_path):
    stereo = stereo_of(tmp_path, LENSES["opencv"])
    write_workspace(stereo, tmp_path)
    write_true_maps(stereo, tmp_path)
    cut = tmp_path / "stereo/normal_maps/00002.png.geometric.bin"
    cut.write_bytes(cut.read_bytes()[:-1])
    write_workspace(stereo, tmp_path)
    assert not cut.exists()
    assert len(list(tmp_path.glob("stereo/*_maps/*.bin"))) == 2 * 5 - 1


def test_a_failure_of_colmap_ends_in_a_sentence(tmp_path):
    stereo = stereo_of(tmp_path, LENSES["opencv"])
    write_workspace(stereo, tmp_path / "dense")
    (tmp_path / "dense/stereo/fusion.cfg").unlink()
    with pytest.raises(UserError, match=r"COLMAP's stereo failed \(.*\); delete .*dense and try again"):
        fuse_workspace(tmp_path / "dense", stereo.config)


@pytest.mark.skipif(pycolmap.has_cuda, reason="this pycolmap has CUDA")
def test_without_cuda_the_commands_say_what_to_do_before_they_do_anything(tmp_path, capsys):
    folder = save_scene(photographed_plane(tmp_path / "photos", LENSES["opencv"]), tmp_path / "scene").folder
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    assert _run(densify_command, "adop densify", [str(folder), "--stereo", "colmap"]) == 2
    assert NO_CUDA in capsys.readouterr().err
    words = [str(tmp_path / "photos"), "--output", str(tmp_path / "new"), "--stereo", "colmap"]
    assert _run(capture_command, "adop capture", words) == 2
    said = capsys.readouterr()
    assert NO_CUDA in said.err and "Stage 1" not in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "scene"]
    assert before == sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))


@pytest.mark.cuda
@pytest.mark.skipif(not pycolmap.has_cuda, reason="this pycolmap was built without CUDA")
def test_colmap_finds_the_surface(tmp_path):
    lens = Lens("opencv", 400, 320, 4 * INTRINSICS, LENSES["opencv"].distortion)
    folder = save_scene(photographed_plane(tmp_path / "photos", lens), tmp_path / "scene").folder
    config = StereoConfig(method="colmap", keep_points=False)
    points = densify_scene(folder, tmp_path / "dense", config, lambda _: None).points
    assert len(points) > 10_000 and points.confidence is None
    distance = np.abs(points.xyz @ np.array(NORMAL) - DISTANCE) / np.linalg.norm(NORMAL)
    assert np.median(distance) < 5e-3
