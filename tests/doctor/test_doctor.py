"""The doctor: its description of this machine, the compile matrix, and the GPU check's comparisons run on the CPU."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adop.backend.compile import kernel_names
from adop.bench.raster.scene import make_bench_scene
from adop.doctor.compile_matrix import KernelReport, compile_kernels, compile_matrix, read_report
from adop.doctor.doctor import DoctorConfig, doctor
from adop.doctor.gpu_bench import Workload, gpu_bench
from adop.doctor.gpu_check import ALLOWED_ADAM, ALLOWED_CROPS, ALLOWED_IMAGES
from adop.doctor.gpu_images import image_errors
from adop.doctor.gpu_raster import ALLOWED, DISTORTION, RasterCase, raster_errors
from adop.doctor.gpu_step import adam_error, crop_error, replay_error
from adop.doctor.wall_scene import make_wall_scene
from adop.errors import UserError
from adop.ops import RasterConfig
from adop.scene.read import load_scene


def test_it_says_what_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(DoctorConfig()) == 0
    said = capsys.readouterr().out
    assert "CPU kernels" in said and re.search("^backends +reference, cpu", said, re.MULTILINE)


def test_every_kernel_compiles_for_a_gpu() -> None:
    """For the one with vector atomics; .ci/run compiles for all."""
    pytest.importorskip("cuda.bindings.nvrtc")
    reports = compile_kernels(90)
    assert [r.name for r in reports] == kernel_names() and len(reports) > 15
    assert all(r.spill_bytes == 0 and 0 < r.registers < 255 for r in reports)


@pytest.mark.slow
def test_the_whole_matrix(tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    assert compile_matrix(file) == 0
    kernels = json.loads(file.read_text())["kernels"]
    assert {k["arch"] for k in kernels} == {f"sm_{a}" for a in (75, 80, 86, 89, 90, 100, 120)}
    assert all({"name", "arch", "registers", "spill_bytes"} <= k.keys() for k in kernels)


def test_a_spill_is_read_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def log(stores: int) -> str:
        return "".join(
            f"ptxas info : Compiling entry function '{name}' for 'sm_90'\n"
            f" 8 bytes stack frame, {stores} bytes spill stores, 12 bytes spill loads\n"
            "ptxas info : Used 42 registers, used 0 barriers\n"
            for name in kernel_names()
        )

    assert read_report(log(4), 90, "float")[0] == KernelReport(kernel_names()[0], "float", "sm_90", 42, 16, 8)
    with pytest.raises(RuntimeError, match="does not mention the kernel"):
        read_report("nothing", 90, "float")
    assert compile_matrix(compile_all=lambda arch, real: read_report(log(4), arch, real)) == 1
    assert "SPILL: " in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_check_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="needs a CUDA GPU, and torch finds none"):
        doctor(DoctorConfig(gpu_check=True))


def test_the_gpu_checks_comparisons_pass_on_the_cpu() -> None:
    scene = make_bench_scene(6000)
    bilinear = RasterCase("opencv", raster=RasterConfig(position_gradient="bilinear"))
    cases = [RasterCase(model, dtype) for model, dtype in itertools.product(DISTORTION, ALLOWED)]
    for case in (*cases, bilinear):
        errors = raster_errors(scene, case, "cpu")
        assert len(errors) == 18 and all(error <= ALLOWED[case.dtype] for error in errors.values()), errors
    assert adam_error("cpu") <= ALLOWED_ADAM
    assert crop_error("cpu") <= ALLOWED_CROPS
    errors = image_errors("cpu")
    assert len(errors) == 8 and all(error < ALLOWED_IMAGES for error in errors.values()), errors


def test_the_gpu_checks_training_steps_run_on_a_scene_made_up_for_them(tmp_path: Path) -> None:
    scene = make_wall_scene(tmp_path, 3000, 3, (60, 40))
    # On a CPU no step is replayed, so both runs take the same steps.
    assert replay_error("cpu", False, scene) == 0


def test_the_made_up_scene_shows_its_points(tmp_path: Path) -> None:
    scene = load_scene(make_wall_scene(tmp_path, 3000, 3, (240, 160)))
    for photo in scene.photos:
        local = scene.points.xyz + photo.world_to_camera[:3, 3].astype(np.float32)
        pixels, _, seen = scene.lenses[0].project(local)
        x, y = pixels[seen].astype(int).T
        shown = np.asarray(Image.open(photo.file))[y, x].astype(int)
        assert seen.sum() > 500 and np.abs(shown - scene.points.colors[seen]).mean() < 4


@pytest.mark.long
def test_the_gpu_benchmark_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workload = Workload(
        (2000, 4000), (96, 64), ((48, 32),), 3000, 5000, 3, (60, 40), repeats=1, steps=2, steps_together=2
    )
    assert gpu_bench(tmp_path / "bench.json", workload, "cpu") == 0
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert all(figure["value"] > 0 for figure in figures)
    names = [figure["name"] for figure in figures]
    assert len(names) == 2 * 4 + 3 * 2 + 2 + 3 * 2 + 3 and names[0] == "0.002 M points, every one drawn"
    assert "the slower one over one alone" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_benchmark_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="needs a CUDA GPU, and torch finds none"):
        doctor(DoctorConfig(gpu_bench=True))


def test_the_numbers_of_two_checks_do_not_go_into_one_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exactly one of"):
        doctor(DoctorConfig(compile_matrix=True, gpu_check=True, json=tmp_path / "numbers.json"))


@pytest.mark.cuda
def test_gpu_check() -> None:
    assert doctor(DoctorConfig(gpu_check=True)) == 0
