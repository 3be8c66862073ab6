"""The options of the command line: their help, their spelling, and what `adop train` starts from."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adop.cli.commands import COMMANDS
from adop.cli.train import parse_train_options, train_command
from adop.config import preset, save_config
from adop.errors import UserError


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return each option that a command's help page lists, with its help text."""
    with pytest.raises(SystemExit, match="0"):
        COMMANDS[name](f"adop {name}", ["--help"])
    options: dict[str, str] = {}
    last = ""
    for line in capsys.readouterr().out.replace("│", " ").splitlines():
        text = line.strip()
        if re.match(r" {1,3}--?[a-z]", line):
            last = re.split(r"[ ,]", text.removeprefix("-h, "))[0]
            options[last] = text.partition("  ")[2]
        elif line.startswith(6 * " ") and last:
            options[last] += " " + text
        else:
            last = ""
    return {name: re.sub(r"\(default:.*|\(required\)", "", text).strip() for name, text in options.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    options = help_of(command, capsys)
    assert "--help" in options
    assert [name for name, text in options.items() if not text] == []


def test_the_help_of_training_lists_options_of_every_stage(capsys: pytest.CaptureFixture[str]):
    options = help_of("train", capsys)
    for name in (
        "--preset",
        "--resume",
        "--learn.rolling-shutter",
        "--refine.align.converged-px",
        "--lr.poses",
    ):
        assert name in options, name
    assert not any("_" in name for name in options)


def test_help_needs_no_torch():
    program = (
        "import sys\nfrom adop.cli.commands import COMMANDS\n"
        "try:\n    COMMANDS['train']('adop train', ['--help'])\n"
        "except SystemExit:\n    sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)


def test_options_are_laid_over_the_preset():
    options, base = parse_train_options(
        "adop train", ["scenes/mine", "--preset", "gpu", "--lr.features", "0.5"]
    )
    assert base == preset("gpu")
    assert options.scenes == (Path("scenes/mine"),)
    assert options.train.preset == "gpu" and options.train.batch == preset("gpu").batch
    assert options.train.lr.features == 0.5
    assert options.output is None and not options.resume


def test_spellings_with_an_equals_sign_and_an_underscore_work():
    words = ["--preset=large", "--output=runs/x", "--learn.rolling_shutter", "on", "--no-cuda-graphs"]
    options, base = parse_train_options("adop train", words)
    assert base == preset("large")
    assert options.output == Path("runs/x")
    assert options.train.learn.rolling_shutter == "on" and not options.train.cuda_graphs


def test_the_former_name_of_a_preset_works_with_a_sentence(capsys: pytest.CaptureFixture[str]):
    options, base = parse_train_options("adop train", ["--preset", "default"])
    assert base == options.train == preset("gpu")
    assert capsys.readouterr().out.count("'default' is called 'gpu' now") == 1


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match="quick, gpu or large"):
        parse_train_options("adop train", ["--preset", "huge"])


def test_a_file_comes_before_the_preset_and_options_before_the_file(tmp_path: Path):
    file = tmp_path / "part.json"
    file.write_text(json.dumps({"preset": "gpu", "steps": 7, "crop": 128}))
    options, _ = parse_train_options("adop train", ["--config", str(file), "--crop", "64"])
    assert (options.train.steps, options.train.crop) == (7, 64)
    assert options.train.batch == preset("gpu").batch
    assert options.config == file


def test_a_resumed_run_keeps_its_options(tmp_path: Path):
    save_config(preset("gpu"), tmp_path / "config.json")
    options, base = parse_train_options("adop train", ["--resume", "--output", str(tmp_path), "--steps", "9"])
    assert base == preset("gpu")
    assert options.resume and options.output == tmp_path and options.train.steps == 9
    with pytest.raises(UserError, match="name it with --output"):
        parse_train_options("adop train", ["--resume"])
    for words in (["--lr.features", "0.5"], ["--preset", "quick"], ["--test-every", "3"]):
        name = words[0].removeprefix("--").split(".")[0]
        with pytest.raises(UserError, match=f"leave out {name}"):
            train_command("adop train", ["--resume", "--output", str(tmp_path), *words])


def test_a_misspelt_option_is_refused_with_a_proposal(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parse_train_options("adop train", ["--presett", "gpu"])
    assert "--preset" in capsys.readouterr().err.replace("--presett", "")
