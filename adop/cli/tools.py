"""`adop info`, `adop doctor` and `adop bench`: what is in a scene, what runs here, and how well."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from adop.cli.parse import parse_options
from adop.files import OutputFile, write_text


@dataclass(frozen=True)
class InfoOptions:
    """Show what is in a scene, and what is unusual about it."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""
    json: OutputFile | None = None
    """Write the same to this JSON file; - prints it instead of the text."""


def info_command(name: str, words: list[str]) -> int:
    """Run `adop info` and return the exit status."""
    options = parse_options(InfoOptions, name, words)
    from adop.scene.info import scene_info
    from adop.scene.read import load_scene

    only_json = options.json is not None and str(options.json) == "-"
    report = functools.partial(print, file=sys.stderr) if only_json else print
    info = scene_info(load_scene(options.scene, report))
    text = json.dumps(info.as_dict(), indent=1) + "\n"
    if only_json:
        print(text, end="")
        return 0
    print(info)
    if options.json is not None:
        write_text(options.json, text)
    return 0


def doctor_command(name: str, words: list[str]) -> int:
    """Run `adop doctor` and return the exit status."""
    from adop.doctor.doctor import DoctorConfig, doctor

    return doctor(parse_options(DoctorConfig, name, words))


def bench_raster_command(name: str, words: list[str]) -> int:
    """Run `adop bench raster` and return the exit status."""
    from adop.bench.raster.benchmark import BenchRasterConfig, bench_raster

    return bench_raster(parse_options(BenchRasterConfig, name, words))


def bench_refine_command(name: str, words: list[str]) -> int:
    """Run `adop bench refine` and return the exit status."""
    from adop.bench.refinement import BenchRefineConfig, bench_refine

    return bench_refine(parse_options(BenchRefineConfig, name, words))


def bench_gradients_command(name: str, words: list[str]) -> int:
    """Run `adop bench gradients` and return the exit status."""
    from adop.bench.gradients import BenchGradientsConfig, bench_gradients

    return bench_gradients(parse_options(BenchGradientsConfig, name, words))


def bench_quality_command(name: str, words: list[str]) -> int:
    """Run `adop bench quality` and return the exit status."""
    from adop.bench.quality.benchmark import BenchQualityConfig, bench_quality

    return bench_quality(parse_options(BenchQualityConfig, name, words))


def bench_stereo_command(name: str, words: list[str]) -> int:
    """Run `adop bench stereo` and return the exit status."""
    from adop.bench.stereo import BenchStereoConfig, bench_stereo

    bench_stereo(parse_options(BenchStereoConfig, name, words))
    return 0


def bench_frame_command(name: str, words: list[str]) -> int:
    """Run `adop bench frame` and return the exit status."""
    from adop.bench.frame_speed import BenchFrameConfig, bench_frame

    bench_frame(parse_options(BenchFrameConfig, name, words))
    return 0


def bench_train_command(name: str, words: list[str]) -> int:
    """Run `adop bench train` and return the exit status."""
    from adop.bench.training_speed import BenchTrainConfig, bench_training

    bench_training(parse_options(BenchTrainConfig, name, words))
    return 0
