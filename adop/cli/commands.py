"""The table of commands."""

from __future__ import annotations

from collections.abc import Callable

from adop.cli.capture import capture_command, densify_command
from adop.cli.evaluate import compare_command, eval_command
from adop.cli.other_programs import (
    export_command,
    import_bundler_command,
    import_colmap_command,
    import_metashape_command,
    import_nerfstudio_command,
    import_realityscan_command,
)
from adop.cli.render import render_command
from adop.cli.tools import (
    bench_frame_command,
    bench_gradients_command,
    bench_quality_command,
    bench_raster_command,
    bench_refine_command,
    bench_stereo_command,
    bench_train_command,
    doctor_command,
    info_command,
)
from adop.cli.train import train_command
from adop.cli.view import pack_command, view_command

# Each takes its name, for its help page, and the words after it; it returns the exit status.
COMMANDS: dict[str, Callable[[str, list[str]], int]] = {
    "train": train_command,
    "eval": eval_command,
    "compare": compare_command,
    "render": render_command,
    "view": view_command,
    "pack": pack_command,
    "export": export_command,
    "capture": capture_command,
    "import colmap": import_colmap_command,
    "import nerfstudio": import_nerfstudio_command,
    "import metashape": import_metashape_command,
    "import realityscan": import_realityscan_command,
    "import bundler": import_bundler_command,
    "densify": densify_command,
    "info": info_command,
    "doctor": doctor_command,
    "bench raster": bench_raster_command,
    "bench frame": bench_frame_command,
    "bench train": bench_train_command,
    "bench refine": bench_refine_command,
    "bench gradients": bench_gradients_command,
    "bench quality": bench_quality_command,
    "bench stereo": bench_stereo_command,
}
