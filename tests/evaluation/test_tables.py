"""Scores as text."""

from typing import Any

from adop.evaluation.tables import DECIMALS, PICTURES, flicker_text, photo_table, score_table


def scores(photo: str, **others: Any) -> dict[str, Any]:
    """Return scores as in `eval.json`, each another number."""
    values = {
        f"{name}{end}": float(3 * i + j) for i, name in enumerate(DECIMALS) for j, end in enumerate(PICTURES)
    }
    return {"photo": photo} | values | others


def test_the_tables_hold_every_score_and_fit_a_terminal():
    photos = [scores("a/very/long/folder/name/photo_000001.jpg", edge_contrast=None), scores("b.jpg")]
    result = {"mean": scores(""), "baseline_points": scores("", psnr_fitted=77.125), "photos": photos}
    means, each = score_table(result), photo_table(result)
    assert all(len(line) <= 100 for line in (means + "\n" + each).splitlines())
    rows = [line.split() for line in means.splitlines()]
    assert rows[2] == ["plain", "0.00", "3.000", "6.000", "9.00"]
    assert rows[4] == ["colour-corrected", "2.00", "5.000", "8.000", "11.00"]
    assert rows[7][1] == "77.12"
    with_half = score_table(result | {"mean": scores("", psnr_right=1.5)}).splitlines()
    assert with_half[3].split() == ["plain,", "right", "half", "only,", "as", "fitted", "1.50"]
    first, second = (line.split() for line in each.splitlines()[2:])
    assert first[0] == "ame/photo_000001.jpg" and first[10:] == ["-", "10.00", "11.00"]
    assert second[:4] == ["b.jpg", "0.00", "1.00", "2.00"] and len(second) == 13


def test_flicker_is_one_sentence():
    flicker = {"difference_of_255": 1.234, "pixels": 1234, "share": 0.5, "pairs": 3}
    assert "1.23 of 255" in flicker_text(flicker) and "1,234 pixels (50%) of 3 pairs" in flicker_text(flicker)
    assert "no common surface" in flicker_text(flicker | {"difference_of_255": None})
