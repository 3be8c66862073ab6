"""Exposure values from EXIF tags and CSV tables."""

import math

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from adop.errors import UserError
from adop.images.exif import exposure_value, read_exposure, read_exposure_table


def photo(path, tags):
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    exif = Image.Exif()
    exif[272] = "a camera"
    exif.get_ifd(0x8769).update(tags)
    image.save(path, exif=exif)
    return path


def test_exposure_values_of_known_settings():
    assert exposure_value(1.0, 1.0, 100.0) == 0.0
    assert exposure_value(1 / 125, 16.0, 100.0) == pytest.approx(14.966, abs=1e-3)  # the sunny-16 rule: EV 15
    # Twice the ISO makes a brighter photo: one EV less.
    assert exposure_value(0.01, 4.0, 200.0) == pytest.approx(exposure_value(0.01, 4.0, 100.0) - 1)
    assert exposure_value(0.02, 4.0, 100.0) == pytest.approx(exposure_value(0.01, 4.0, 100.0) - 1)
    for broken in (
        (0, 4, 100),
        (0.1, 0, 100),
        (0.1, 4, 0),
        (math.nan, 4, 100),
        (0.1, math.inf, 100),
        (-1, 4, 100),
    ):
        assert exposure_value(*broken) is None


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_exposure_is_read_from_exif_tags(tmp_path, ending):
    tags = {33434: IFDRational(1, 400), 33437: IFDRational(28, 10), 34855: 80, 37380: IFDRational(-1, 1)}
    path = photo(tmp_path / f"a.{ending}", tags)
    assert read_exposure(path) == pytest.approx(math.log2(2.8**2 * 400) - math.log2(0.8), abs=1e-6)


def test_apex_values_replace_missing_tags(tmp_path):
    path = photo(tmp_path / "a.jpg", {37377: IFDRational(8, 1), 37378: IFDRational(6, 1), 34855: 100})
    assert read_exposure(path) == pytest.approx(8 + 6)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {33434: IFDRational(1, 400), 33437: IFDRational(28, 10)},
        {33434: IFDRational(1, 0), 33437: IFDRational(28, 10), 34855: 80},
        {33434: IFDRational(0, 1), 33437: IFDRational(28, 10), 34855: 80},
        {33434: IFDRational(1, 400), 33437: IFDRational(28, 10), 34855: 0},
    ],
)
def test_missing_or_invalid_tags_give_none(tmp_path, tags):
    assert read_exposure(photo(tmp_path / "a.jpg", tags)) is None


def test_files_that_are_not_photos_give_none(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    assert read_exposure(tmp_path / "a.jpg") is None
    assert read_exposure(tmp_path / "none.jpg") is None


def test_exposure_is_read_from_a_csv_table(tmp_path):
    path = tmp_path / "exif.csv"
    path.write_text("name,exposure_time,f_number,iso,ev\na.jpg,0.01,4.0,100,99\nb.jpg,,,,\nc.jpg,,,,7.5\n")
    table = read_exposure_table(path)
    assert table["a.jpg"] == pytest.approx(math.log2(1600))
    assert table["b.jpg"] is None and table["c.jpg"] == 7.5
    path.write_text("name,ev\na.jpg,3\n")
    assert read_exposure_table(path) == {"a.jpg": 3.0}


def test_errors_in_tables_name_what_is_wrong(tmp_path):
    path = tmp_path / "exif.csv"
    with pytest.raises(UserError, match="cannot be read"):
        read_exposure_table(path)
    path.write_text("file,ev\na.jpg,3\n")
    with pytest.raises(UserError, match="columns"):
        read_exposure_table(path)
    path.write_text("name,ev\na.jpg,3\nb.jpg,dark\n")
    with pytest.raises(UserError, match="line 3"):
        read_exposure_table(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_exposure_table(path)
