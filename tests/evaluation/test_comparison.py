"""Runs side by side: what is compared, what is left out or refused, the page, and the command."""

import json
import random
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from adop.cli.evaluate import compare_command
from adop.config import LossConfig, NetworkConfig
from adop.errors import UserError
from adop.evaluation.pages.comparison import compare_runs, score_rows
from adop.evaluation.pages.comparison_page import write_comparison
from adop.evaluation.pages.evaluated_run import read_evaluation
from support.command_line import status_of
from support.evaluated_runs import ParsedPage, metric_lines, scores_of, write_run
from support.mutations import is_one_sentence, mutated

SMALL = {"size": (16, 12)}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs that share the photos b and c: the second has trained on a, the third lacks it. Tests only read them."""
    folder = tmp_path_factory.mktemp("runs")
    first = write_run(folder / "first", ["a", "b", "c"], **SMALL)
    second = write_run(folder / "second", ["b", "c", "d"], ("a", "t"), **SMALL, batch=8)
    third = write_run(folder / "third", ["c", "b"], **SMALL, network=NetworkConfig(width=32))
    return [first, second, third]


@pytest.fixture
def spoilt(three: list[Path], tmp_path: Path) -> list[Path]:
    """The three runs, the first of them a copy that a test may change."""
    return [shutil.copytree(three[0], tmp_path / "first"), *three[1:]]


def test_the_means_are_over_the_photos_that_all_runs_held_out(three: list[Path]):
    comparison = compare_runs(three)
    assert comparison.photos == ("b", "c")
    for run, means in zip(three, comparison.means(), strict=True):
        for name in ("psnr_fitted", "ssim", "flip_corrected"):
            expected = np.mean([scores_of(f"{run.name} {photo}")[name] for photo in ("b", "c")])
            assert means[name] == pytest.approx(expected)
    assert comparison.left_out == (
        "Left out, because first lacks 1 photo: d.",
        "Left out, because second was trained on 1 photo: a.",
        "Left out, because third lacks 2 photos: a, d.",
    )
    settings = dict(comparison.settings())
    assert settings == {"batch": ["4", "8", "4"], "network.width": ["24", "24", "32"]}


def test_the_best_of_a_row_is_the_highest_the_lowest_or_the_nearest_to_one():
    def best(score: str, values: list[float | None]) -> tuple[int, ...]:
        rows = score_rows([{f"{score}_fitted": value} for value in values])
        return next(row.best for row in rows if row.picture == "fitted" and row.best)

    assert best("psnr", [20.0, 21.0, 19.0]) == (1,)
    assert best("ssim", [0.8123, 0.7, 0.8119]) == (0, 2)  # the same, as they are shown
    assert best("flip", [0.2, 0.3, 0.1]) == (2,)
    assert best("edge_contrast", [0.8, 1.1, None]) == (1,)


def test_the_page_shows_every_run(three: list[Path], tmp_path: Path):
    write_comparison(compare_runs(three), tmp_path / "out")
    page = ParsedPage(tmp_path / "out" / "index.html")
    assert len(page.files()) == 2 * (1 + 3 + 3)
    for file in page.files():
        assert imageio.imread(tmp_path / "out" / file).shape == (12, 16, 3)
    means = [[scores_of(f"{run.name} {p}")["psnr_fitted"] for p in ("b", "c")] for run in three]
    assert ["fitted", *(f"{np.mean(pair):.2f}" for pair in means)] in page.rows
    assert ["network.width", "24", "24", "32"] in page.rows
    assert "was trained on 1 photo: a." in page.text and "say little" in page.text
    chosen = [[v["value"] for t, v in page.elements if t == "option" and "selected" in v][i] for i in (0, 1)]
    sides = {v["class"]: v["src"] for t, v in page.elements if t == "img" and v.get("class")}
    assert len(set(chosen)) == 2 and set(sides) == {"left", "right"}


def test_curves_of_all_runs_are_in_one_plot_over_steps_and_over_seconds(tmp_path: Path):
    weights = {"x": 0.3, "y": 0.3, "z": 0.1}
    runs = [write_run(tmp_path / n, ["a"], **SMALL, loss=LossConfig(ssim=w)) for n, w in weights.items()]
    for run in runs[:2]:
        (run / "metrics.jsonl").write_text(metric_lines(300))
    write_comparison(compare_runs(runs), tmp_path / "out")
    page = ParsedPage(tmp_path / "out" / "index.html")
    plots = {file for file in page.files() if file.endswith(".svg")}
    names = ("loss_step", "loss_seconds", "psnr_step", "psnr_seconds")
    assert plots == {f"pictures-1/{name}{end}.svg" for name in names for end in ("", "_dark")}
    drawn = (tmp_path / "out" / "pictures-1" / "loss_step.svg").read_text()
    assert (
        "#2f7ed8" in drawn and "#dd6b20" in drawn and "#2fa36b" not in drawn
    )  # the third has nothing to draw
    assert "values cannot be compared" in page.text


def test_names_are_no_markup(three: list[Path], tmp_path: Path):
    write_comparison(compare_runs(three[:2]), tmp_path / "harmless")
    photos = ['"><script>1</script>', "<b>.jpg"]
    first = write_run(tmp_path / "<i>first", ["'", *photos], **SMALL)
    second = write_run(tmp_path / 'second" onclick="x', [*photos, "y"], ("'", "t"), **SMALL, batch=8)
    write_comparison(compare_runs([first, second]), tmp_path / "hostile")
    pages = [ParsedPage(tmp_path / name / "index.html") for name in ("harmless", "hostile")]
    tags, attributes = zip(*((page.tags(), page.attribute_names()) for page in pages), strict=True)
    assert tags[0] == tags[1] and attributes[0] == attributes[1]
    assert '"><script>1</script>' in pages[1].text and "<i>first" in pages[1].text


def test_runs_of_one_name_are_told_apart(tmp_path: Path):
    runs = [write_run(tmp_path / name / "run", ["a"], **SMALL) for name in ("x", "y")]
    assert compare_runs(runs).labels == ("x/run", "y/run")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"size": (16, 14)}, "has 16x12 and 16x14 pixels; only runs of the same photos"),
        ({"photo": (0.1, 0.1, 0.9)}, "shows something else; only runs of the same scene"),
    ],
)
def test_runs_of_other_photos_are_refused(tmp_path: Path, more: dict, message: str):
    runs = [write_run(tmp_path / "x", ["a"], **SMALL), write_run(tmp_path / "y", ["a"], **SMALL | more)]
    with pytest.raises(UserError, match=message):
        compare_runs(runs)


def test_runs_that_cannot_be_compared_are_named_with_what_to_do(three: list[Path], tmp_path: Path):
    (tmp_path / "empty").mkdir()
    other = write_run(tmp_path / "other", ["z"], **SMALL)
    with pytest.raises(UserError, match="empty: is not a run folder"):
        compare_runs([three[0], tmp_path / "empty"])
    with pytest.raises(UserError, match="at least two"):
        compare_runs(three[:1])
    with pytest.raises(UserError, match="first: is named twice"):
        compare_runs([three[0], three[1], three[0]])
    with pytest.raises(UserError, match=r"shares no held-out photo .* first lacks 1 photo: z"):
        compare_runs([three[0], other])
    (other / "eval" / "eval.json").unlink()
    with pytest.raises(UserError, match=r"other: was not evaluated; `adop eval \S+other` does so"):
        compare_runs([*three, other])


@pytest.mark.parametrize("source", ["../../secret.jpg", "/etc/passwd", "pictures"])
def test_pictures_outside_the_evaluation_are_not_copied(spoilt: list[Path], tmp_path: Path, source: str):
    imageio.imwrite(tmp_path / "secret.jpg", np.zeros((12, 16, 3), np.uint8))
    file = spoilt[0] / "eval" / "eval.json"
    values = json.loads(file.read_text())
    values["photos"][1]["pictures"]["render"] = source
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"lacks something .*the picture '{source}'.*`adop eval"):
        compare_runs(spoilt)


def test_a_damaged_evaluation_is_refused_in_a_sentence_or_read(spoilt: list[Path], tmp_path: Path):
    file = spoilt[0] / "eval" / "eval.json"
    valid, refused = file.read_bytes(), 0
    for seed in range(60):
        file.write_bytes(mutated(valid, "json", random.Random(seed)))
        try:
            read_evaluation(spoilt[0])
        except UserError as error:
            refused += 1
            assert is_one_sentence(str(error), tmp_path), (seed, str(error)[:300])
    assert refused > 30


def test_the_command_prints_the_table_and_replaces_its_own_page_only(
    three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    words, out = ["compare", *map(str, three), "--output"], tmp_path / "out"
    assert status_of([*words, str(out)], monkeypatch) == 0
    printed = capsys.readouterr().out
    means = [np.mean([scores_of(f"{run.name} {p}")["psnr"] for p in ("b", "c")]) for run in three]
    plain = next(line for line in printed.splitlines() if line.split()[0] == "plain").split()[1:]
    assert [value.lstrip("*") for value in plain] == [f"{mean:.2f}" for mean in means]
    assert plain[int(np.argmax(means))].startswith("*") and "trained on 1 photo: a" in printed
    assert compare_command("adop compare", [*words[1:], str(out), "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["runs"][1]["mean"]["psnr"] == pytest.approx(means[1]) and values["photos"] == ["b", "c"]
    assert sorted(file.name for file in out.iterdir()) == ["index.html", "pictures-2"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("precious")
    assert status_of([*words, str(tmp_path / "mine")], monkeypatch) == 2
    assert "is not empty and holds no comparison" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["index.html"]


def test_a_page_that_cannot_be_finished_leaves_the_earlier_one(spoilt: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    comparison = compare_runs(spoilt)
    write_comparison(comparison, out)
    before = {file: file.read_bytes() for file in out.rglob("*.*") if file.is_file()}
    (spoilt[0] / "eval" / comparison.photo("c")[0].pictures["error"]).unlink()
    with pytest.raises(OSError):
        write_comparison(comparison, out)
    assert {file: file.read_bytes() for file in out.rglob("*.*") if file.is_file()} == before
    assert [folder.name for folder in out.iterdir() if folder.is_dir()] == ["pictures-1"]
