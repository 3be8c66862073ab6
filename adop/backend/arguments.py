"""The argument structs of the kernels, field by field as in `kernels/arguments.h`, and how tensors fill them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

MAX_LEVELS = 12
PARAMETERS = 36  # gradients of one view: 12 of the pose, 4 of the intrinsics, up to 20 of the distortion

_Levels = ctypes.c_void_p * MAX_LEVELS
_KINDS: dict[str, Any] = {
    "pointer": ctypes.c_void_p,
    "levels": _Levels,  # one pointer for each level of a pyramid
    "integer": ctypes.c_int64,
    "double": ctypes.c_double,
}
_Fields = tuple[tuple[str, Any], ...]


def _fields(*groups: tuple[str, str]) -> _Fields:
    """Return ctypes fields of groups (kind, names separated by spaces)."""
    return tuple((name, _KINDS[kind]) for kind, names in groups for name in names.split())


class CameraArguments(ctypes.Structure):
    """The cameras of all views and what their lenses show."""

    _fields_ = _fields(
        ("pointer", "world_to_camera intrinsics distortion crop shutter limit bounds"),
        ("integer", "views width height distortion_size"),
        ("double", "near_depth"),
    )


class PointArguments(ctypes.Structure):
    """The points in world space."""

    _fields_ = _fields(("pointer", "xyz radius normals"))


class BlockArguments(ctypes.Structure):
    """Which points are visited, block by block."""

    _fields_ = _fields(("pointer", "visit"), ("integer", "points block_size blocks"))


class ProjectedArguments(ctypes.Structure):
    """The points in pixels."""

    _fields_ = _fields(("pointer", "uv z radius_px visible"))


class PyramidArguments(ctypes.Structure):
    """The features that are drawn and the levels that they are drawn to."""

    _fields_ = _fields(
        ("pointer", "features xyz centres ghosts"),
        ("levels", "image weight depth background"),
        ("integer", "views width height channels row levels background_full"),
        ("double", "depth_tolerance radius_threshold"),
    )


class PyramidGradientArguments(ctypes.Structure):
    """The gradient of the levels' images and that of the features."""

    _fields_ = _fields(("levels", "image"), ("pointer", "features"), ("integer", "bilinear"))


class HitArguments(ctypes.Structure):
    """The hits of the CPU's band order."""

    _fields_ = _fields(("pointer", "hits offsets"), ("integer", "chunks band_rows"))


class BandArguments(ctypes.Structure):
    """What rasterize and draw have in common."""

    _fields_ = (
        ("blocks", BlockArguments),
        ("pyramid", PyramidArguments),
        ("gradients", PyramidGradientArguments),
        ("hits", HitArguments),
    )


class LensArguments(ctypes.Structure):
    """The arguments of the kernels of lens.cu."""

    _fields_ = (("camera", CameraArguments), *_fields(("pointer", "field")))


class CullArguments(ctypes.Structure):
    """The arguments of the culling kernels of project.cu."""

    _fields_ = (
        ("camera", CameraArguments),
        ("blocks", BlockArguments),
        *_fields(
            ("pointer", "radius block_lower block_upper block_radius block_falling"),
            ("integer", "view"),
            ("double", "radius_threshold"),
        ),
    )


class ProjectArguments(ctypes.Structure):
    """The arguments of the projecting kernels of project.cu."""

    _fields_ = (
        ("camera", CameraArguments),
        ("points", PointArguments),
        ("blocks", BlockArguments),
        ("projected", ProjectedArguments),
        *_fields(("pointer", "grad_uv grad_z grad_xyz grad_parameters"), ("integer", "slots view")),
    )


class RasterizeArguments(ctypes.Structure):
    """The arguments of the kernels of rasterize.cu and of the bands' entry points for projected points."""

    _fields_ = (
        ("bands", BandArguments),
        ("projected", ProjectedArguments),
        *_fields(("pointer", "grad_uv rows"), ("integer", "row_count")),
    )


class DrawArguments(ctypes.Structure):
    """The arguments of draw, which projects and rasterizes at once on a CPU."""

    _fields_ = (
        ("bands", BandArguments),
        ("camera", CameraArguments),
        ("points", PointArguments),
        *_fields(("pointer", "grad_xyz grad_parameters")),
    )


class SparseAdamArguments(ctypes.Structure):
    """The arguments of the kernel of adam.cu."""

    _fields_ = _fields(
        ("pointer", "parameter gradient average square steps rates decays scales"),
        ("integer", "rows channels counts"),
        ("double", "beta1 beta2 epsilon full_steps"),
    )


class TonemapArguments(ctypes.Structure):
    """The arguments of the kernels of tonemap.cu."""

    _fields_ = _fields(
        ("pointer", "radiance gain curve vignette crop photo_size photo grad_photo grad_radiance"),
        ("pointer", "positions slopes sums"),
        ("integer", "width height samples slots view"),
        ("double", "leak"),
    )


class ImageLossArguments(ctypes.Structure):
    """The arguments of the kernels of image_loss.cu."""

    _fields_ = _fields(
        ("pointer", "image target mask window grey row_sums partial row_partial sums grad_sums grad_image"),
        ("integer", "width height slots view"),
        ("double", "ssim_c1 ssim_c2"),
    )


class HoleFillingArguments(ctypes.Structure):
    """The arguments of the kernels of hole_filling.cu."""

    _fields_ = _fields(
        ("levels", "image weight depth background padded_depth colours valid occlusion surface"),
        ("levels", "resampled_rows grad_colours grad_image grad_background grad_upsampled"),
        ("integer", "views channels width height levels fill_levels occlusion_levels level"),
        ("double", "tolerance"),
    )


class RendererArguments(ctypes.Structure):
    """The arguments of the kernels of renderer.cu."""

    _fields_ = _fields(
        ("levels", "image valid occlusion colours inputs grad_inputs grad_image grad_colours"),
        ("pointer", "brightness shown outputs radiance grad_radiance grad_outputs"),
        ("integer", "channels input_channels width height level view joined channel_step pixel_step"),
    )


class RayArguments(ctypes.Structure):
    """The rays of views on a grid."""

    _fields_ = _fields(("pointer", "local world_to_camera crop photo_size"), ("integer", "rows columns"))


class EnvironmentArguments(ctypes.Structure):
    """The arguments of the kernels of environment.cu."""

    _fields_ = (
        ("rays", RayArguments),
        *_fields(
            ("levels", "image weight composite coordinates grad_composite grad_image"),
            ("pointer", "texels grad_texels"),
            ("integer", "channels width height map_rows map_columns mip_level level view"),
        ),
    )


class CropArguments(ctypes.Structure):
    """The arguments of the kernels of crops.cu."""

    _fields_ = _fields(
        ("pointer", "photos masks windows first weights rows target mask"),
        ("integer", "views side taps rows_kept"),
    )


class ReprojectArguments(ctypes.Structure):
    """The arguments of the kernels of reproject.cu."""

    _fields_ = (
        ("camera", CameraArguments),
        ("rays", RayArguments),
        *_fields(
            ("pointer", "depth chosen pixels surfaces places curve gain vignette scratch shown"),
            ("integer", "width height chosen_count depth_along_axis view"),
            ("double", "tolerance far"),
        ),
    )


class PatchMatchArguments(ctypes.Structure):
    """The arguments of the kernels of patch_match.cu."""

    _fields_ = _fields(
        ("levels", "sources source_planes"),
        ("pointer", "image forward backward source_sizes planes costs"),
        ("integer", "width height source_count sources_kept colour sweep"),
        ("double", "min_inverse max_inverse max_slope perturbation value_spread min_seen min_variance"),
        ("double", "shift_weight max_shift"),
    )


STRUCTURES: tuple[type[ctypes.Structure], ...] = (
    CameraArguments,
    PointArguments,
    BlockArguments,
    ProjectedArguments,
    PyramidArguments,
    PyramidGradientArguments,
    HitArguments,
    BandArguments,
    LensArguments,
    CullArguments,
    ProjectArguments,
    RasterizeArguments,
    DrawArguments,
    SparseAdamArguments,
    TonemapArguments,
    ImageLossArguments,
    HoleFillingArguments,
    RendererArguments,
    RayArguments,
    EnvironmentArguments,
    CropArguments,
    ReprojectArguments,
    PatchMatchArguments,
)

Value = Tensor | Sequence[Tensor | None] | int | float | None | Mapping[str, Any]
Values = Mapping[str, Value]  # a field's name to its value; a struct's value is such a mapping itself


def pack(structure: type[ctypes.Structure], values: Values) -> ctypes.Structure:
    """Return the struct filled with values by name, fields left out being null or 0.

    The struct holds addresses only: the caller keeps the tensors alive until the launch returns.
    """
    result = structure()
    _fill(result, values)
    return result


def _fill(structure: ctypes.Structure, values: Values) -> None:
    for name, value in values.items():
        if not hasattr(structure, name):
            raise ValueError(f"{type(structure).__name__} has no field {name}")
        if isinstance(value, Tensor):
            setattr(structure, name, _address(name, value))
        elif isinstance(value, Mapping):
            _fill(getattr(structure, name), value)
        elif isinstance(value, list | tuple):
            setattr(structure, name, _Levels(*(_address(f"{name}[{i}]", t) for i, t in enumerate(value))))
        elif value is not None:
            setattr(structure, name, value)


def _address(name: str, tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr()


class _FieldLayout(ctypes.Structure):
    """One field as the CPU library describes it, see `kernels/layout.h`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("kind", ctypes.c_char),
    )


# Name, offset, size, and kind: p pointer, i integer, d double, s struct.
Layout = list[tuple[str, int, int, str]]


def python_layout(structure: type[ctypes.Structure]) -> Layout:
    """Return the fields of a struct as ctypes lays them out."""
    kinds = {ctypes.c_void_p: "p", _Levels: "p", ctypes.c_int64: "i", ctypes.c_double: "d"}
    rows = []
    for field in structure._fields_:
        name, kind = field[0], field[1]
        described = getattr(structure, name)
        rows.append((name, described.offset, described.size, kinds.get(kind, "s")))
    return rows


def library_layout(library: ctypes.CDLL, structure: type[ctypes.Structure]) -> Layout:
    """Return the fields of a struct as the C++ compiler laid them out."""
    describe = getattr(library, f"adop_layout_{structure.__name__}")
    describe.restype = ctypes.POINTER(_FieldLayout)
    rows, fields = [], describe()
    for field in fields:
        if not field.name:
            break
        rows.append((field.name.decode(), field.offset, field.size, field.kind.decode()))
    return rows


def check_layouts(library: ctypes.CDLL, structures: Sequence[type[ctypes.Structure]] = STRUCTURES) -> None:
    """Raise RuntimeError unless the library lays out every field of every struct as Python does."""
    for structure in structures:
        ours, theirs = python_layout(structure), library_layout(library, structure)
        for index in range(max(len(ours), len(theirs))):
            field, expected = (rows[index] if index < len(rows) else None for rows in (ours, theirs))
            if field != expected:
                raise RuntimeError(
                    f"{structure.__name__}, field {index}: adop/backend/arguments.py has {field}, "
                    f"the compiled kernels have {expected} (name, offset, size, kind)"
                )
