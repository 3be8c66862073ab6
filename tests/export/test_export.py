"""The command `adop export`: what it refuses before the run is loaded, and that nothing is half written."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adop.__main__ import ENVIRONMENT_ERRORS
from adop.config import save_config
from adop.errors import UserError
from adop.export.export import export_run
from adop.export.export_config import ExportConfig, Kind
from adop.run.checkpoint import Progress, save_checkpoint
from adop.run.run import Run
from support.command_line import status_of
from support.small_scene import can_import_open3d


def test_the_command_loads_a_run_and_says_what_it_wrote(plain_run: Run, tmp_path: Path, capsys, monkeypatch):
    folder = plain_run.scene.folder
    config = plain_run.config.__class__(**{**vars(plain_run.config), "scene": str(folder)})
    (tmp_path / "run").mkdir()
    save_config(config, tmp_path / "run" / "config.json")
    save_checkpoint(tmp_path / "run" / "checkpoints", plain_run.pipeline, {}, Progress(0, 0.0))
    output = tmp_path / "new" / "points.ply"
    words = ["export", str(tmp_path / "run"), "--to", "ply", "--output", str(output)]
    assert status_of(words, monkeypatch) == 0
    said = capsys.readouterr().out.splitlines()
    count = len(plain_run.pipeline.points)
    assert said[-1].startswith(f"{output}: {count:,} points with normals, colours, ") and "MB" in said[-1]
    assert output.stat().st_size > 27 * count
    assert [file.name for file in output.parent.iterdir()] == ["points.ply"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "ply", "--output", "a.txt"), "an export to ply is a file that ends in .ply"),
        (("--to", "mesh", "--output", "a.stl"), "ends in .ply or .obj or .glb"),
        (("--to", "lut", "--output", "a"), "ends in .cube"),
        (("--to", "csv", "--output", "folder"), "ends in .csv"),
        (("--to", "colmap", "--output", "a.ply"), "is a folder; name one without .ply"),
        (("--to", "nerfstudio", "--output", "transforms.json"), "is a folder; name one without .json"),
        (("--to", "colmap", "--output", "full"), "holds something else ('precious.txt')"),
        (("--to", "colmap", "--output", "full", "--force"), "holds something else ('precious.txt')"),
        (("--to", "colmap", "--output", "model"), "is not empty; --force replaces an earlier export"),
        (("--to", "ply", "--output", "full/precious.txt/a.ply"), "is a file; choose another place"),
        (("--to", "ply", "--output", "a.ply", "--lut-samples", "9"), "--lut-samples changes nothing"),
        (
            ("--to", "3dgs", "--output", "a.ply", "--features"),
            "--features changes nothing in an export to 3dgs",
        ),
        (("--to", "csv", "--output", "a.csv", "--lens", "0"), "--lens changes nothing in an export to csv"),
        (
            ("--to", "mesh", "--output", "a.ply", "--mesh-depth", "20"),
            "--mesh-depth: expected 4 to 14, got 20",
        ),
        (
            ("--to", "mesh", "--output", "a.ply", "--mesh-trim", "nan"),
            "--mesh-trim: expected 0 to 1, got nan",
        ),
        (("--to", "lut", "--output", "a.cube", "--lut-samples", "1"), "--lut-samples: expected 2 to 65536"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run_is_loaded(
    words, says, tmp_path: Path, capsys, monkeypatch
):
    """No run is there."""
    for name in ("full/precious.txt", "model/cameras.bin"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("precious")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert status_of(["export", "RUN", *words], monkeypatch) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1, said
    assert {file.name for file in tmp_path.rglob("*")} == {
        "full",
        "precious.txt",
        "model",
        "cameras.bin",
        "folder",
    }


def test_the_function_refuses_the_same(plain_run: Run, tmp_path: Path):
    with pytest.raises(UserError, match=r"kind: expected one of ply, colmap, .*, got 'usd'"):
        export_run(plain_run, "usd", tmp_path / "a.usd")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="lut_samples: expected 2 to 65536"):
        export_run(plain_run, "lut", tmp_path / "a.cube", ExportConfig(lut_samples=0))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file become larger than 500 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("kind", "output", "config"),
    [
        ("ply", "a.ply", ExportConfig()),
        ("3dgs", "a.ply", ExportConfig()),
        pytest.param(
            *("mesh", "a.glb", ExportConfig(mesh_depth=4)),
            marks=pytest.mark.skipif(not can_import_open3d(), reason="needs Open3D"),
        ),
        ("lut", "a.cube", ExportConfig()),
        ("csv", "a.csv", ExportConfig()),
        ("network", "a.safetensors", ExportConfig()),
        ("colmap", "folder", ExportConfig()),
        ("colmap", "folder", ExportConfig(text=True)),
        ("nerfstudio", "folder", ExportConfig(link=True)),
    ],
)
def test_an_export_that_fails_leaves_what_was_there(
    kind: Kind, output: str, config: ExportConfig, plain_run: Run, tmp_path: Path, full_disk
):
    (tmp_path / "folder").mkdir()
    if output != "folder":
        (tmp_path / output).write_text("earlier")
    before = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(OSError) as failed:
        export_run(plain_run, kind, tmp_path / output, config, report=lambda _: None)
    assert failed.value.errno in ENVIRONMENT_ERRORS
    assert {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert len(list(tmp_path.iterdir())) == 1 + len(before)


def test_an_earlier_export_is_replaced_if_that_is_forced(plain_run: Run, tmp_path: Path):
    export_run(plain_run, "colmap", tmp_path / "model", ExportConfig(text=True), report=lambda _: None)
    with pytest.raises(UserError, match="--force"):
        export_run(plain_run, "colmap", tmp_path / "model", report=lambda _: None)
    export_run(plain_run, "colmap", tmp_path / "model", ExportConfig(force=True), report=lambda _: None)
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert {"cameras.bin", "images.bin", "points3D.bin", "test.txt"} <= names
    assert not any(name.endswith(".txt") for name in names - {"test.txt"})


def test_the_photos_of_the_scene_are_never_replaced(plain_run: Run):
    folder = plain_run.scene.folder
    listed = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"holds something else|holds the photos"):
        export_run(plain_run, "nerfstudio", folder, ExportConfig(force=True), report=lambda _: None)
    assert sorted(folder.rglob("*")) == listed and np.all([file.exists() for file in listed])
