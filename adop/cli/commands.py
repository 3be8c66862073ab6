"""The commands behind the command line: each parses its own options and calls one function."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from adop.config.config import TrainConfig, load_config, preset
from adop.errors import UserError
from adop.importers.import_config import ImportConfig

MAY_CHANGE_ON_RESUME = {"steps", "minutes", "evaluate_every", "checkpoint_seconds", "device", "cuda_graphs"}


@dataclass(frozen=True)
class TrainOptions:
    """Train a scene: points, network, environment and physical camera together, from its photos.

    A run folder holds config.json, metrics.jsonl, tensorboard/, checkpoints/, eval/eval.json and eval/index.html.
    """

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder (`adop import` makes one); without it, the demo scene that ships with adop."""
    output: Path = Path("runs/demo")
    """Run folder."""
    resume: bool = False
    """Continue the run in the output folder from its newest checkpoint."""
    profile: bool = False
    """Time every stage of the training steps, and print the split when training ends; without CUDA graphs."""
    config: Path | None = None
    """Take the values of this JSON file (a run's config.json, or a part of one); options given here win."""
    view: bool = False
    """Show the scene in the browser while it learns."""
    host: str = "127.0.0.1"
    """Address of the viewer; beyond this machine a token guards it (`adop view --help`)."""
    port: int = 8090
    """Port of the viewer."""
    token: str | None = None
    """What a browser must know to be let in."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TrainConfig)


def _option(arguments: list[str], name: str) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(name + "="):
            return argument.split("=", 1)[1]
    return None


def _start_config(arguments: list[str]) -> TrainConfig:
    """Return what the options are laid over: the resumed run's configuration, a file's, or a preset."""
    output = Path(_option(arguments, "--output") or "runs/demo")
    if "--resume" in arguments and (output / "config.json").exists():
        return load_config(output / "config.json")
    file = _option(arguments, "--config")
    if file is not None:
        return load_config(Path(file))
    return preset(_option(arguments, "--preset") or "quick")


def _parse(options: type, name: str, arguments: list[str], default: Any = None) -> Any:
    extra = {} if default is None else {"default": default}
    return tyro.cli(options, prog=name, args=arguments, **extra)


def train_command(name: str, arguments: list[str]) -> int:
    """adop train."""
    base = _start_config(arguments)
    options = _parse(TrainOptions, name, arguments, TrainOptions(train=base))
    if options.resume and (options.output / "config.json").exists():
        changed = [
            field.name
            for field in dataclasses.fields(TrainConfig)
            if getattr(base, field.name) != getattr(options.train, field.name)
        ]
        fixed = [field for field in changed if field not in MAY_CHANGE_ON_RESUME]
        if fixed:
            raise UserError(f"--resume continues the run as it was begun; leave out {', '.join(fixed)}")
    from adop.scene.scene import demo_scene_folder
    from adop.training.train import train

    scene = options.scene or (Path(options.train.scene) if options.train.scene else demo_scene_folder())
    config = dataclasses.replace(options.train, scene=str(Path(scene).resolve()))
    profile = live = None
    if options.profile:
        from adop.bench.step_profile import StepProfile

        profile = StepProfile()
    if options.view:
        from adop.viewer.training_view import LiveView

        live = LiveView(options.host, options.port, options.token)
    try:
        with profile or contextlib.nullcontext():
            result = train(Path(scene), options.output, config, options.resume, callback=live)
    except BaseException:
        if live is not None:
            live.close()
        raise
    if profile:
        print(profile.table())
    if result:
        print(_table(result))
        print(f"pictures: {options.output / 'eval' / 'index.html'}")
    if live is not None:
        live.finish()
    return 0


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'held-out photos':20}  PSNR    PSNR fitted  SSIM"]
    rows = [("trained", result["mean"]), ("points, untrained", result["baseline_points"])]
    if "poses_refined" in result:
        rows.append(("their poses refined", result["poses_refined"]["mean"]))
    for label, values in rows:
        lines.append(
            f"{label:20}  {values['psnr']:5.2f}   {values['psnr_fitted']:5.2f}        {values['ssim']:.4f}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class EvalOptions:
    """Score a run's held-out photos again; write eval/eval.json and eval/index.html."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    scene: Path | None = None
    """Scene folder, where it has moved since training."""
    refine_poses: bool = False
    """Score once more with the held-out photos' poses aligned to the photos; reported apart, as it has seen them."""
    device: str = "auto"


def eval_command(name: str, arguments: list[str]) -> int:
    """adop eval."""
    options = _parse(EvalOptions, name, arguments)
    from adop.evaluation.evaluate import evaluate
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    if not run.split["held_out"]:
        raise UserError(f"{options.run}: was trained with every photo; there is none to score")
    about = {"step": run.progress.step, "seconds": run.progress.seconds}
    folder = run.folder / "eval"
    print(
        _table(evaluate(run.pipeline, run.scene, run.cache, run.split, folder, about, options.refine_poses))
    )
    print(f"pictures: {run.folder / 'eval' / 'index.html'}")
    return 0


@dataclass(frozen=True)
class RenderOptions:
    """Render views of a run: one photo's camera, a path through all cameras, or a file of cameras.

    An output that ends in .mp4 becomes a video; else pictures are written, into a folder for a path.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    output: Path
    """Where to: OUT.png, OUT.exr, OUT.mp4, or a folder."""
    photo: str | None = None
    """Name or number of a photo: render from its camera, exposed as it was."""
    path: bool = False
    """Render a smooth path through the captured cameras."""
    cameras: Path | None = None
    """Render the cameras of this nerfstudio camera path JSON, in the scene's coordinates."""
    formats: tuple[Literal["png", "exr", "depth"], ...] = ("png",)
    """What to write of each view: the photo, linear radiance, depth."""
    exposure: float = 0.0
    """EV of the virtual camera relative to the mean of the photos; larger is darker."""
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue."""
    response: Literal["learned", "srgb", "linear", "filmic"] = "learned"
    """Curve from light to picture of a path or of cameras; photos are developed as they were."""
    vignette: bool = False
    """Darken the corners of a path's or cameras' pictures as the lens does."""
    seconds: float = 6.0
    """Length of the path through the cameras."""
    rate: float | None = None
    """Frames per second (24, or the file's)."""
    width: int | None = None
    """Width of the pictures (the photos', or the file's)."""
    scene: Path | None = None
    """Scene folder, where it has moved since training."""
    device: str = "auto"


def render_command(name: str, arguments: list[str]) -> int:
    """adop render."""
    options = _parse(RenderOptions, name, arguments)
    chosen = [options.photo is not None, options.path, options.cameras is not None]
    if sum(chosen) != 1:
        raise UserError("say what to render: exactly one of --photo NAME, --path, --cameras FILE")
    from adop.render.camera_settings import CameraSettings
    from adop.render.render import file_path, find_photo, photos_path, render_path, render_photo, save_view
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    if options.photo is not None:
        if options.output.suffix.lower() == ".mp4":
            raise UserError(f"{options.output}: one photo makes no video; name a .png or .exr, or use --path")
        formats = options.formats
        if options.output.suffix.lower() == ".exr" and "exr" not in formats:
            formats = ("exr",)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        stem = (
            options.output.with_suffix("")
            if options.output.suffix.lower() in (".png", ".exr")
            else options.output
        )
        for written in save_view(render_photo(run, find_photo(run, options.photo)), stem, formats):
            print(written)
        return 0
    if options.cameras is not None:
        path = file_path(options.cameras, options.width, options.rate)
    else:
        path = photos_path(run, options.seconds, options.rate or 24.0, options.width)
    look = CameraSettings(options.exposure, options.white_balance, options.response, options.vignette)
    render_path(run, path, options.output, options.formats, look)
    print(options.output)
    return 0


@dataclass(frozen=True)
class ViewOptions:
    """Look at a run or a scene in the browser: steer, expose, compare with the photos, lay and render camera paths."""

    folder: tyro.conf.Positional[Path]
    """Run folder, or a scene folder that was not trained yet."""
    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine (0.0.0.0: every network) a token guards the viewer; nothing is
    encrypted, so `ssh -L` from the other machine is the safer way."""
    port: int = 8090
    """Port to listen on; 0 takes a free one."""
    token: str | None = None
    """What a browser must know to be let in; made where the viewer is open to other machines."""
    output: Path | None = None
    """Folder for saved paths and renders (a run's own folder; for a scene views/ and its name)."""
    scene: Path | None = None
    """Scene folder, where it has moved since training."""
    device: str = "auto"


def view_command(name: str, arguments: list[str]) -> int:
    """adop view."""
    options = _parse(ViewOptions, name, arguments)
    from adop.viewer.app import open_run_or_scene, view_run, wait, welcome

    run = open_run_or_scene(options.folder, options.scene, options.device, print)
    with view_run(run, options.host, options.port, options.token, options.output) as viewer:
        wait(welcome(viewer))
    return 0


@dataclass(frozen=True)
class ColmapOptions:
    """Make a scene folder of a COLMAP model, its photos and a point cloud."""

    sparse: tyro.conf.Positional[Path]
    """Folder with cameras, images and points3D, .bin or .txt."""
    images: Path
    """Folder of the photos."""
    output: Path
    """Scene folder to make."""
    points: Path | None = None
    """PLY of the dense cloud; without it, the model's own sparse points."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ImportConfig)


def import_colmap_command(name: str, arguments: list[str]) -> int:
    """adop import colmap."""
    options = _parse(ColmapOptions, name, arguments)
    from adop.importers.import_scene import import_colmap

    scene = import_colmap(options.sparse, options.images, options.points, options.output, options.options)
    print(f"{options.output}: {len(scene.photos)} photos, {len(scene.points):,} points")
    return 0


@dataclass(frozen=True)
class NerfstudioOptions:
    """Make a scene folder of a nerfstudio transforms.json."""

    transforms: tyro.conf.Positional[Path]
    """The transforms.json, or its folder."""
    output: Path
    """Scene folder to make."""
    images: Path | None = None
    """Folder of the photos, where they are not beside the file."""
    points: Path | None = None
    """PLY of the points, where the file names none."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ImportConfig)


def import_nerfstudio_command(name: str, arguments: list[str]) -> int:
    """adop import nerfstudio."""
    options = _parse(NerfstudioOptions, name, arguments)
    from adop.importers.import_scene import import_nerfstudio

    scene = import_nerfstudio(
        options.transforms, options.points, options.output, options.images, options.options
    )
    print(f"{options.output}: {len(scene.photos)} photos, {len(scene.points):,} points")
    return 0


@dataclass(frozen=True)
class InfoOptions:
    """Show what is in a scene, and what is odd about it."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""


def info_command(name: str, arguments: list[str]) -> int:
    """adop info."""
    options = _parse(InfoOptions, name, arguments)
    from adop.scene.info import scene_info
    from adop.scene.read import load_scene

    print(scene_info(load_scene(options.scene)))
    return 0


def doctor_command(name: str, arguments: list[str]) -> int:
    """adop doctor."""
    from adop.doctor.doctor import DoctorConfig, doctor

    return doctor(_parse(DoctorConfig, name, arguments))


def bench_raster_command(name: str, arguments: list[str]) -> int:
    """adop bench raster."""
    from adop.bench.raster import BenchRasterConfig, bench_raster

    return bench_raster(_parse(BenchRasterConfig, name, arguments))


def bench_refine_command(name: str, arguments: list[str]) -> int:
    """adop bench refine."""
    from adop.bench.refinement import BenchRefineConfig, bench_refine

    return bench_refine(_parse(BenchRefineConfig, name, arguments))


def bench_gradients_command(name: str, arguments: list[str]) -> int:
    """adop bench gradients."""
    from adop.bench.gradients import BenchGradientsConfig, bench_gradients

    return bench_gradients(_parse(BenchGradientsConfig, name, arguments))


COMMANDS: dict[str, Callable[[str, list[str]], int]] = {
    "train": train_command,
    "eval": eval_command,
    "render": render_command,
    "view": view_command,
    "import colmap": import_colmap_command,
    "import nerfstudio": import_nerfstudio_command,
    "info": info_command,
    "doctor": doctor_command,
    "bench raster": bench_raster_command,
    "bench refine": bench_refine_command,
    "bench gradients": bench_gradients_command,
}
