"""Argument structs and launches: the layout on both sides, errors of kernels, and the count of launches."""

import ctypes
import sys

import numpy as np
import pytest
import torch

from adop.backend.arguments import (
    STRUCTURES,
    BlockArguments,
    CameraArguments,
    HoleFillingArguments,
    ProjectArguments,
    RasterizeArguments,
    SparseAdamArguments,
    check_layouts,
    library_layout,
    pack,
    python_layout,
)
from adop.backend.compile import cpu_library, kernel_names
from adop.backend.launch import Launch, _launch_cuda, count_launches, launch
from adop.errors import UserError
from adop.ops import Backend, Levels, draw, project, rasterize
from adop.ops.environment import RayGrid, composite_environment
from adop.ops.hole_filling import HoleFillingSettings, fill_holes
from adop.ops.image_loss import image_loss_sums
from adop.ops.rasterization import HIT_BYTES
from adop.ops.renderer.inputs import renderer_inputs
from adop.ops.renderer.output import renderer_output
from adop.ops.tonemap import PhysicalCamera, tonemap_photo
from adop.reprojection.photo_table import choose_photos
from adop.reprojection.reproject import reproject
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_
from support.looked_up_photos import HEIGHT, WIDTH, photo_camera, photo_light, photo_table, rays_of
from support.strategies import draw_with_gradients, make_scene

REALS = [("float", torch.float32), ("double", torch.float64)]


@pytest.mark.parametrize(("real", "dtype"), REALS)
def test_structs_have_one_layout_on_both_sides(real: str, dtype: torch.dtype) -> None:
    library = cpu_library(real)
    for structure in STRUCTURES:
        assert library_layout(library, structure) == python_layout(structure), structure.__name__
    library.adop_hit_size.restype = ctypes.c_int64
    assert library.adop_hit_size() == HIT_BYTES[dtype]


def test_every_struct_of_the_kernels_is_checked() -> None:
    names = {structure.__name__ for structure in STRUCTURES}
    defined = {
        name: value
        for name, value in vars(sys.modules["adop.backend.arguments"]).items()
        if name.endswith("Arguments")
    }
    assert names == set(defined)


def test_swapped_fields_of_one_size_are_named() -> None:
    fields = list(SparseAdamArguments._fields_)
    fields[11], fields[12] = fields[12], fields[11]
    swapped = type("SparseAdamArguments", (ctypes.Structure,), {"_fields_": fields})
    with pytest.raises(RuntimeError, match=r"SparseAdamArguments, field 11: .*'beta2'.* have \('beta1'"):
        check_layouts(cpu_library("float"), [swapped])
    shorter = type("BlockArguments", (ctypes.Structure,), {"_fields_": list(BlockArguments._fields_)[:-1]})
    with pytest.raises(RuntimeError, match=r"BlockArguments, field 3: .* has None, .* have \('blocks'"):
        check_layouts(cpu_library("float"), [shorter])
    other = [(n, ctypes.c_double if n == "rows" else k) for n, k in SparseAdamArguments._fields_]
    with pytest.raises(RuntimeError, match=r"\('rows', 64, 8, 'd'\), .* \('rows', 64, 8, 'i'\)"):
        check_layouts(
            cpu_library("float"), [type("SparseAdamArguments", (ctypes.Structure,), {"_fields_": other})]
        )


def test_the_struct_that_a_gpu_gets_by_value_is_the_same() -> None:
    tensors = [torch.zeros(2), torch.zeros(3)]
    values = {"colours": tensors, "width": 5, "tolerance": 0.5, "image": [None, tensors[0]]}
    arguments = pack(HoleFillingArguments, values)
    struct = np.frombuffer(bytes(arguments), np.dtype(HoleFillingArguments))[0:1].reshape(())
    assert struct.nbytes == ctypes.sizeof(HoleFillingArguments) and struct.shape == ()
    assert struct["width"] == 5 and struct["tolerance"] == 0.5
    assert struct["colours"].tolist() == [t.data_ptr() for t in tensors] + [0] * 10
    assert struct["image"].tolist() == [0, tensors[0].data_ptr()] + [0] * 10


def test_fields_are_filled_by_name() -> None:
    pose = torch.zeros(1, 4, 4)
    arguments = pack(ProjectArguments, {"camera": {"world_to_camera": pose, "views": 1}, "slots": 7})
    assert arguments.camera.world_to_camera == pose.data_ptr() and arguments.camera.views == 1
    assert arguments.slots == 7 and arguments.points.xyz is None
    with pytest.raises(ValueError, match="CameraArguments has no field height_px"):
        pack(ProjectArguments, {"camera": {"height_px": 5}})
    assert isinstance(arguments.camera, CameraArguments)


def test_only_contiguous_tensors_and_known_kernels_are_launched() -> None:
    with pytest.raises(ValueError, match="xyz: expected a contiguous tensor"):
        pack(ProjectArguments, {"points": {"xyz": torch.zeros(3, 4).T}})
    with pytest.raises(AttributeError, match="no_such_kernel"):
        launch(ProjectArguments, [Launch("no_such_kernel", 1)], {}, torch.zeros(1))


def test_a_kernel_that_fails_raises_its_error() -> None:
    """Too few chunks for the hits: the kernel must neither write them nor end the process."""
    visit = torch.full((1, 1), 100000, dtype=torch.int32)
    values = {
        "bands": {
            "blocks": {"visit": visit, "points": 100000, "block_size": 100000, "blocks": 1},
            "pyramid": {"views": 1, "width": 16, "height": 16, "levels": 1},
            "hits": {"chunks": 2, "band_rows": 16},
        }
    }
    with pytest.raises(RuntimeError, match="bands_forward: the points need more chunks of hits than given"):
        launch(RasterizeArguments, [Launch("bands_forward", 0)], values, torch.zeros(1))


def test_a_launch_without_cupy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UserError, match=r"pip install 'adop\[cuda\]', or choose --render.backend reference"):
        _launch_cuda([], pack(ProjectArguments, {}), "float", torch.device("cuda"))


def test_launches_are_counted_by_kernel() -> None:
    scene = make_scene(views=2, points=50)
    with count_launches() as launches, count_launches() as inner:
        project(scene.camera, scene.points)
    expected = {name: 1 for name in ("lens_limit_opencv", "lens_reach_opencv", "lens_bounds_opencv")}
    assert launches == inner == {**expected, "project_forward_opencv": 2}
    project(scene.camera, scene.points)
    assert launches == inner, "what runs afterwards is not counted"


def run_every_op(backend: Backend) -> None:
    """Run every op, forward and backward."""
    scene = make_scene(views=2, points=200)
    draw_with_gradients(scene, backend)
    uv = project(scene.camera, scene.points, backend=backend)
    rasterize(uv, scene.features, 37, 29, scene.config, backend=backend)
    levels = draw(scene.camera, scene.points, scene.features, scene.config, backend="reference")
    images = [image.requires_grad_() for image in levels.features]
    filled = fill_holes(levels, None, HoleFillingSettings(3, 2, 0.05), backend).colours
    whole, size = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[37.0, 29.0]] * 2)
    grid = RayGrid(scene.camera.ray_grid(9), size, whole, scene.camera.world_to_camera)
    shown = composite_environment(images, levels.weight, torch.rand(8, 16, 4), [0] * 4, grid, backend)
    curve = torch.linspace(0, 1, 25).expand(2, 3, 25)
    camera = PhysicalCamera(torch.ones(2, 3), curve, None, whole, size)
    photo = tonemap_photo(filled[0], camera, backend)
    sums = image_loss_sums(photo, torch.zeros_like(photo), torch.ones(2, 1, 29, 37), True, backend)
    (sums.sum() + shown[0].sum() + run_renderer(levels, backend)).backward()
    param = torch.ones(5, 4)
    moments = RowMoments(torch.zeros(5, 4), torch.zeros(5, 4), torch.zeros(5, dtype=torch.int32))
    sparse_adam_(param, torch.ones(5, 4), moments, AdamSettings(0.1), backend)
    view, surfaces = photo_camera("opencv", 0.0), torch.full((1, HEIGHT // 2, WIDTH // 2), 4.0)
    pixels, depth = (
        torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8),
        torch.full((1, 1, HEIGHT, WIDTH), 4.0),
    )
    table = photo_table([photo_camera("opencv", 0.2)], pixels, surfaces)
    chosen = choose_photos(table, view, 1, backend=backend)
    assert reproject(table, chosen, view, rays_of(view), depth, photo_light(1), 1e5, backend)[0, 3].any()


def run_renderer(levels: Levels, backend: Backend) -> torch.Tensor:
    """Return a sum over what a network would read of levels, and over what its outputs would stand for."""
    filled, light = fill_holes(levels, None, HoleFillingSettings(3, 2, 0.05), backend), torch.ones(2)
    inputs = renderer_inputs(levels, filled, light, None, True, backend)
    outputs = torch.zeros(2, 6, 29, 37, requires_grad=True)
    return inputs[0].sum() + renderer_output(outputs, filled.colours[0], light, None, backend).sum()


def test_the_reference_launches_no_kernel() -> None:
    with count_launches() as launches:
        run_every_op("reference")
    assert launches.total() == 0
    with count_launches() as launches:
        run_every_op("auto")
    by_point = {name for name in kernel_names() if name.startswith("raster_")} - {"raster_backward_uv"}
    other = {name for name in kernel_names() if name.endswith(("_fisheye", "_ocam"))}
    crops = {name for name in kernel_names() if name.startswith("crop_")}  # no op: their reference is Pillow
    stereo = {name for name in kernel_names() if name.startswith("patch_match_")}  # see tests/stereo
    expected = set(kernel_names()) - by_point - other - crops - stereo
    assert expected - set(launches) == {"cull_opencv", "project_backward_opencv", "raster_backward_uv"}
