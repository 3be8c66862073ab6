"""Make `scenes/demo`: a simulated capture of a small town square, together with its ground truth.

    python scenes/make_demo.py --output scenes/demo

The scene has forty photos of 480×360 pixels, taken on a walk along an arc around a fountain and back, with the camera
higher on the way back. The square is a triangle mesh (`world.py`, `houses.py`, `furniture.py`) with procedural textures
(`textures.py`). It is ray-traced with Open3D (`tracer.py`) through the true, distorted lens with 4×4 jittered rays per
pixel, and photographed by a simulated camera (`simulate.py`): exposure ±1.5 EV, white balance, vignette, response, noise,
JPEG with EXIF. The points (`cloud.py`) are like those of multi-view stereo. No image is splatted from points, so that a
point renderer has no advantage.

The folder holds:
    dataset.ini camera.ini images.txt camera_indices.txt poses.txt exposure.txt point_cloud.ply images/
        An ADOP scene with the exact poses and lens. exposure.txt is computed from EXIF, whose shutter times are rounded
        to thirds of a stop: as with a real camera, it differs from the true exposure by up to 0.17 EV.
    truth/truth.json
        Formulas and true values: lens, poses, EV, white balance, vignette, response, noise.
    truth/NAME.exr
        For each held-out photo (every 8th: 0, 8, 16 …): R G B, the linear radiance through the lens before exposure (half
        floats rounded to 7 bits, error below 0.4 %), and Z, the depth at the pixel's centre (camera z in metres, infinite
        for the sky).
    truth/points.npz
        For each point of point_cloud.ply, in its order: offset (int16, in units of `unit` metres) to the true surface
        point, and outlier (bool; the offsets of outliers are clipped). A prepared cloud has another order but the same
        positions, so its points can be matched by equality.

Needs Open3D. Takes about five minutes on two cores. The same seed gives the same scene; with other versions of Open3D or
numpy a few pixels may differ.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from adop.errors import UserError
from adop.scenes.cloud import NORMAL_NOISE, OUTLIER_SHARE, PIXEL_NOISE, Cloud, make_cloud, pixel_rays
from adop.scenes.mesh import Array
from adop.scenes.simulate import CameraTruth, make_camera, save_jpeg
from adop.scenes.tracer import World

TEST_EVERY = 8  # one photo in every eight is held out
OFFSET_UNIT = 0.0005  # metres, of the offsets in points.npz
# truth.json contains these formulas.
FORMULA = {
    "sensor": "x = radiance 2^-(exposure - scene_exposure) white_balance (1 + a r^2 + b r^4 + c r^6)",
    "r": "distance of the pixel's centre from vignette.centre (pixels) / half diagonal of the photo",
    "noise": "x + normal sqrt(x well + read_noise^2) / well, well = full_well 100 / iso; clipped to [0,1]",
    "response": "t = log(1 + gain x) / log(1 + gain); y = t - curve sin(2 pi t); the JPEG holds round(255 y)",
    "lens": "OpenCV, pixel centres at 0.5; world_to_camera: x right, y down, z forward",
    "exposure": "EV = log2(N^2/t) - log2(ISO/100); exif_exposure: as noted, times rounded to 1/3 stop",
}


def render(world: World, camera: CameraTruth, photo: int, seed: int, side: int = 4) -> Array:
    """Return the linear radiance [H,W,3] float32 through the lens, the mean of side² jittered rays per pixel."""
    width, height = camera.lens.width, camera.lens.height
    rng = np.random.default_rng([seed, 700, photo])
    v, u = np.mgrid[:height, :width].astype(float)
    total = np.zeros((height * width, 3), np.float32)
    for k in range(side * side):
        du, dv = (
            np.array([k % side, k // side])[:, None, None] + rng.uniform(size=(2, height, width))
        ) / side
        origin, ray = pixel_rays(camera, photo, np.stack([u + du, v + dv], -1).reshape(-1, 2))
        origins = np.broadcast_to(origin, ray.shape).astype(np.float32)
        total += world.radiance(origins, ray.astype(np.float32), rng, 2 / side / camera.lens.intrinsics[0])[0]
    return (total / side**2).reshape(height, width, 3)


def depth_map(world: World, camera: CameraTruth, photo: int) -> Array:
    """Return the camera z [H,W] float32 of the surface at each pixel's centre; infinite for the sky."""
    width, height = camera.lens.width, camera.lens.height
    v, u = np.mgrid[:height, :width] + 0.5
    origin, ray = pixel_rays(camera, photo, np.stack([u, v], -1).reshape(-1, 2))
    distance = world.cast(np.broadcast_to(origin, ray.shape), ray).distance
    return (distance * (ray @ camera.world_to_camera[photo, 2, :3])).reshape(height, width).astype(np.float32)


def name_of(photo: int) -> str:
    """Return the file name of a photo without its suffix."""
    return f"square_{photo:03d}"


def take_photos(world: World, camera: CameraTruth, folder: Path, seed: int, side: int) -> list[Array]:
    """Render and write all photos, and the true images of the held-out ones.

    Returns: the JPEGs as read back, [H,W,3] from 0 to 255.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)

    def take(photo: int) -> Array:
        radiance = render(world, camera, photo, seed, side)
        image = camera.develop(radiance, photo, np.random.default_rng([seed, 800, photo]))
        file = folder / "images" / f"{name_of(photo)}.jpg"
        save_jpeg(image, file, camera.exif(photo))
        if photo % TEST_EVERY == 0:
            save_truth_image(
                folder / "truth" / f"{name_of(photo)}.exr", radiance, depth_map(world, camera, photo)
            )
        return np.asarray(Image.open(file)).astype(np.float32)

    with ThreadPoolExecutor(2) as pool:
        return list(
            tqdm(pool.map(take, range(len(camera.exposure))), total=len(camera.exposure), desc="photos")
        )


def save_truth_image(file: Path, radiance: Array, depth: Array) -> None:
    """Write R G B Z as half floats; the radiance is rounded to 7 significant bits, which halves the file's size."""
    mantissa, exponent = np.frexp(radiance)
    rounded = np.ldexp(np.rint(mantissa * 128) / 128, exponent).astype(np.float16)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {c: np.ascontiguousarray(rounded[..., k]) for k, c in enumerate("RGB")}
    channels["Z"] = np.ascontiguousarray(depth.astype(np.float16))
    OpenEXR.File(header, channels).write(str(file))


def save_cloud(cloud: Cloud, folder: Path) -> None:
    """Write truth/points.npz, and point_cloud.ply with 18 bytes per point: normals are signed bytes, 127 for 1."""
    vertex = np.empty(len(cloud.xyz), [("xyz", "<f4", 3), ("normal", "i1", 3), ("rgb", "u1", 3)])
    vertex["xyz"], vertex["rgb"] = cloud.xyz, cloud.colours
    vertex["normal"] = np.rint(cloud.normals * 127)
    names = [f"property float {n}" for n in "xyz"] + [f"property char n{n}" for n in "xyz"]
    names += [f"property uchar {n}" for n in ("red", "green", "blue")]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertex)}", *names, "end_header\n"]
    (folder / "point_cloud.ply").write_bytes("\n".join(head).encode() + vertex.tobytes())
    offset = np.clip(np.rint((cloud.true_xyz - cloud.xyz) / OFFSET_UNIT), -32767, 32767).astype(np.int16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, offset=offset, outlier=cloud.outlier, unit=np.float64(OFFSET_UNIT))
    (folder / "truth" / "points.npz").write_bytes(buffer.getvalue())


def save_folder(camera: CameraTruth, folder: Path) -> None:
    """Write the text files of an ADOP scene folder: pixel centres are at integers, poses are camera to world."""
    count, lens = len(camera.exposure), camera.lens
    fx, fy, cx, cy = lens.intrinsics
    k1, k2, p1, p2 = lens.distortion
    poses = []
    for world_to_camera in camera.world_to_camera:
        inverse = np.linalg.inv(world_to_camera)
        numbers = [*Rotation.from_matrix(inverse[:3, :3]).as_quat(), *inverse[:3, 3]]
        poses.append(" ".join(f"{q:.17g}" for q in numbers))
    exposure = [camera.exif_exposure(k) for k in range(count)]
    dataset = {
        "file_model": "",
        "image_dir": "images/",
        "mask_dir": "",
        "camera_files": "camera.ini",
        "file_point_cloud": "point_cloud.ply",
        "file_point_cloud_compressed": "point_cloud.bin",
        "camera_type_int": 0,
        "znear": 0.1,
        "zfar": 1000,
        "render_scale": 1,
        "scene_exposure_value": f"{np.mean(exposure):.6f}",
        "up_vector": "0 0 1",
    }
    lens_file = {
        "w": lens.width,
        "h": lens.height,
        "K": f"{fx:.17g} {fy:.17g} {cx - 0.5:.17g} {cy - 0.5:.17g} 0",
        "distortion": f"{k1} {k2} 0 0 0 0 {p1} {p2}",
    }
    files = {
        "dataset.ini": ["[SceneDatasetParams]", *(f"{k} = {v}" for k, v in dataset.items())],
        "camera.ini": ["[SceneCameraParams]", *(f"{k} = {v}" for k, v in lens_file.items())],
        "images.txt": [f"{name_of(k)}.jpg" for k in range(count)],
        "camera_indices.txt": ["0"] * count,
        "poses.txt": poses,
        "exposure.txt": [f"{ev:.6f}" for ev in exposure],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n")


def save_truth(camera: CameraTruth, cloud: Cloud, folder: Path, seed: int, side: int) -> None:
    """Write truth/truth.json."""
    lens = camera.lens
    x = np.linspace(0, 1, 257)
    truth = {
        "seed": seed,
        "formula": FORMULA,
        "scene_exposure": camera.scene_exposure,
        "vignette": dict(zip("abc", camera.vignette, strict=True)) | {"centre": camera.vignette_centre},
        "response": {
            "gain": camera.response_gain,
            "curve": camera.response_curve,
            "x": x.tolist(),
            "y": camera.response(x[:, None].repeat(3, 1)).round(7).tolist(),
        },
        "noise": {"full_well": camera.full_well, "read_noise": camera.read_noise, "jpeg_quality": 92},
        "lens": {
            "model": "opencv",
            "width": lens.width,
            "height": lens.height,
            "intrinsics_fx_fy_cx_cy": lens.intrinsics,
            "distortion_k1_k2_p1_p2": lens.distortion,
        },
        "points": {
            "count": len(cloud.xyz),
            "outliers": int(cloud.outlier.sum()),
            "outlier_share": OUTLIER_SHARE,
            "pixel_noise_per_axis": PIXEL_NOISE,
            "normal_noise": NORMAL_NOISE,
        },
        "rays_per_pixel": side**2,
        "held_out": list(range(0, len(camera.exposure), TEST_EVERY)),
        "photos": [photo_truth(camera, k) for k in range(len(camera.exposure))],
    }
    (folder / "truth" / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def photo_truth(camera: CameraTruth, photo: int) -> dict[str, object]:
    """Return what truth.json holds for one photo."""
    return {
        "file": f"{name_of(photo)}.jpg",
        "exposure": float(camera.exposure[photo]),
        "exif_exposure": camera.exif_exposure(photo),
        "iso": camera.iso(photo),
        "white_balance": camera.white_balance[photo].tolist(),
        "world_to_camera": camera.world_to_camera[photo].tolist(),
    }


def make_scene(output: Path, seed: int, photos: int, width: int, side: int, points: int) -> None:
    """Make the scene in a folder beside `output`, then replace `output` with it.

    Raises: UserError if `output` holds anything that this script did not make.
    """
    if output.exists() and not (output / "truth" / "truth.json").is_file() and any(output.iterdir()):
        raise UserError(
            f"{output}: contains files that this script did not make; choose another output folder."
        )
    new = output.with_name(output.name + ".new")
    print("building the square and its lighting", file=sys.stderr)
    world = World(seed)
    camera = make_camera(seed, photos, width, width * 3 // 4)
    shutil.rmtree(new, ignore_errors=True)
    pictures = take_photos(world, camera, new, seed, side)
    print("sampling the point cloud", file=sys.stderr)
    cloud = make_cloud(world, camera, pictures, seed, points)
    save_cloud(cloud, new)
    save_folder(camera, new)
    save_truth(camera, cloud, new, seed, side)
    shutil.rmtree(output, ignore_errors=True)
    new.rename(output)
    size = sum(f.stat().st_size for f in output.rglob("*") if f.is_file())
    print(f"{output}: {photos} photos, {len(cloud.xyz)} points, {size / 1e6:.1f} MB", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "demo", help="folder to create"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all random numbers")
    parser.add_argument("--photos", type=int, default=40, help="number of photos")
    parser.add_argument(
        "--width", type=int, default=480, help="width of the photos in pixels; their height is 3/4 of it"
    )
    parser.add_argument("--side", type=int, default=4, help="render with side × side rays per pixel")
    parser.add_argument("--points", type=int, default=240_000, help="approximate number of points")
    options = parser.parse_args()
    try:
        make_scene(options.output, options.seed, options.photos, options.width, options.side, options.points)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
