"""The ranges of options: every number has one, and one outside it is refused in a sentence, wherever it comes from."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import tyro

from adop.bench.frame_speed import BenchFrameConfig
from adop.bench.gradients import BenchGradientsConfig
from adop.bench.quality.benchmark import BenchQualityConfig
from adop.bench.raster.benchmark import BenchRasterConfig
from adop.bench.refinement import BenchRefineConfig
from adop.bench.stereo import BenchStereoConfig
from adop.bench.training_speed import BenchTrainConfig
from adop.capture.capture_config import CaptureConfig
from adop.capture.capture_scene import capture_scene
from adop.cli.render import RenderOptions
from adop.cli.train import TrainOptions, parse_train_options
from adop.cli.view import ViewOptions
from adop.config import TrainConfig, load_config, preset
from adop.errors import UserError
from adop.export.export_config import ExportConfig
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap
from adop.ranges import Count, Fraction, Positive, Range, check_ranges
from adop.stereo.densify_scene import densify_scene
from adop.stereo.stereo_config import StereoConfig
from adop.training.train import train
from support.command_line import status_of

OPTIONS = (
    TrainOptions,
    RenderOptions,
    ViewOptions,
    CaptureConfig,
    StereoConfig,
    ImportConfig,
    BenchRasterConfig,
    BenchQualityConfig,
    BenchGradientsConfig,
    BenchRefineConfig,
    BenchStereoConfig,
    BenchFrameConfig,
    BenchTrainConfig,
    ExportConfig,
)


@dataclass(frozen=True)
class Several:
    noted: Annotated[tuple[Count, ...], "a note"] = (1, 2, 3)
    optional: tuple[Count, ...] | None = None


@pytest.mark.parametrize("wrong", [Several(noted=(1, 2, 0)), Several(optional=(1, 1, 1, 0))])
def test_each_of_several_numbers_is_checked_whatever_surrounds_them(wrong: Several):
    check_ranges(Several())
    with pytest.raises(UserError, match="expected 1 or more, got 0"):
        check_ranges(wrong)


def numbers_without_range(options: type) -> Iterator[str]:
    """Yield the fields of a dataclass of options, and of those in it, that hold numbers without a range."""
    for name, hint in get_type_hints(options, include_extras=True).items():
        plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        if dataclasses.is_dataclass(plain):
            yield from (f"{name}.{inner}" for inner in numbers_without_range(plain))
        elif holds_number(hint):
            yield name


def holds_number(hint: Any) -> bool:
    if any(isinstance(mark, Range) for mark in getattr(hint, "__metadata__", ())):
        return False
    return hint in (int, float) or any(holds_number(part) for part in get_args(hint))


@pytest.mark.parametrize("options", OPTIONS)
def test_every_number_has_a_range(options: type):
    assert list(numbers_without_range(options)) == []


@pytest.mark.parametrize("name", ["quick", "gpu", "large"])
def test_the_presets_are_in_range(name: str):
    check_ranges(preset(name))


@dataclass(frozen=True)
class Inner:
    """Options of a stage."""

    share: Fraction = 0.5
    sizes: tuple[Positive, ...] = (1.0,)


@dataclass(frozen=True)
class Outer:
    """Options of a command."""

    count: Count | None = None
    free: float = 0.0
    switch: bool = False
    inner: Inner = field(default_factory=Inner)
    bare: Annotated[Inner, tyro.conf.arg(name="")] = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Outer(count=0), "count: expected 1 or more, got 0"),
        (Outer(free=float("nan")), "free: expected a finite number, got nan"),
        (Outer(free=float("-inf")), "free: expected a finite number, got -inf"),
        (Outer(inner=Inner(share=1.5)), "inner.share: expected 0 to 1, got 1.5"),
        (Outer(inner=Inner(sizes=(1.0, 0.0))), "inner.sizes: expected a number above 0, got 0.0"),
        (Outer(bare=Inner(share=-1)), "share: expected 0 to 1, got -1"),
    ],
)
def test_a_number_out_of_range_is_named(given: Outer, sentence: str):
    with pytest.raises(UserError) as caught:
        check_ranges(given)
    assert str(caught.value) == sentence


def test_numbers_at_the_ends_of_a_range_are_taken():
    check_ranges(Outer(count=1, switch=True, inner=Inner(share=0, sizes=(1e-9,)), bare=Inner(share=1)))


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--steps", "-5"],
        ["train", "--steps", "0"],
        ["train", "--crop", "0"],
        ["train", "--minutes", "0"],
        ["train", "--batch", "0"],
        ["train", "--seed", "-1"],
        ["train", "--loss.ssim", "nan"],
        ["train", "--learn.poses", "-3"],
        ["train", "--zoom", "0", "1"],
        ["train", "--densify.scales", "1", "-1"],
        ["train", "--port", "99999", "--view"],
        ["render", "RUN", "--output", "OUT.png", "--photo", "0", "--exposure", "nan"],
        ["render", "RUN", "--output", "OUT.mp4", "--path", "--width", "-3"],
        ["render", "RUN", "--output", "OUT.mp4", "--path", "--rate", "0"],
        ["render", "RUN", "--output", "OUT.mp4", "--path", "--seconds", "-1"],
        ["render", "RUN", "--output", "OUT.mp4", "--path", "--white-balance", "1", "0", "1"],
        ["view", "RUN", "--port", "99999"],
        ["capture", "PHOTOS", "--output", "SCENE", "--frames", "0"],
        ["capture", "PHOTOS", "--output", "SCENE", "--stereo.sources", "13"],
        ["import", "colmap", "SPARSE", "--images", "DIR", "--output", "SCENE", "--longest-side", "-1"],
        ["import", "colmap", "SPARSE", "--images", "DIR", "--output", "SCENE", "--prepare.neighbours", "0"],
        ["densify", "SCENE", "--min-views", "0"],
        ["bench", "raster", "--points", "0"],
    ],
)
def test_the_command_line_refuses_it_in_a_sentence(words: list[str], tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = status_of(words, monkeypatch)
    option = next(word for word in reversed(words) if word.startswith("--") and word != "--view")
    assert status == 2
    assert capsys.readouterr().err.startswith(f"adop: {option}: expected ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["mps", "banana", "cpu:3"])
def test_an_unknown_device_is_refused_in_a_sentence(device: str, tmp_path: Path, capsys, monkeypatch):
    status = status_of(["train", "--output", str(tmp_path / "run"), "--device", device], monkeypatch)
    said = capsys.readouterr().err
    assert status == 2 and said.startswith(f"adop: device '{device}': ") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_options_is_named(tmp_path: Path):
    file = tmp_path / "part.json"
    file.write_text(json.dumps({"refine": {"align": {"scales": 0}}}))
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value) == f"{file}: refine.align.scales: expected 1 to 12, got 0"
    with pytest.raises(UserError, match=r"part\.json: refine\.align\.scales"):
        parse_train_options("adop train", ["--config", str(file)])


def test_the_python_api_refuses_it_too(tmp_path: Path):
    output = tmp_path / "out"
    with pytest.raises(UserError, match=r"^batch: expected 1 or more"):
        train(tmp_path, output, replace(TrainConfig(), batch=0))
    with pytest.raises(UserError, match=r"^frames: "):
        capture_scene(tmp_path, output, CaptureConfig(frames=-1))
    with pytest.raises(UserError, match=r"^min_views: "):
        densify_scene(tmp_path, output, StereoConfig(min_views=0))
    with pytest.raises(UserError, match=r"^longest_side: "):
        import_colmap(tmp_path, tmp_path, None, output, ImportConfig(longest_side=3))
    assert not output.exists()
