"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from adop.errors import UserError
from adop.files import check_writable, write_atomically


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_into_a_new_folder_and_under_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / "new" / ("x" * 247 + ".ä.txt")
    write_atomically(path, lambda temporary: temporary.write_text("all"))
    assert path.read_text() == "all" and list(path.parent.iterdir()) == [path]


def test_a_place_behind_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "drive").symlink_to(tmp_path / "unplugged")
    for path, folder in (("drive", True), ("drive/a.png", False), ("drive/runs/a", True)):
        with pytest.raises(UserError, match="drive is a link to what is not there"):
            check_writable(tmp_path / path, folder)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    check_writable(tmp_path / "new" / "deep" / "file.png")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "folder", folder=True)
    for path, folder, says in (
        ("folder", False, "is a folder; name a file"),
        ("file", True, "is a file; name a folder"),
        ("file/inside.png", False, "cannot be made, because"),
        ("file/inside", True, "cannot be made, because"),
    ):
        with pytest.raises(UserError, match=says):
            check_writable(tmp_path / path, folder)
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(Path("/proc/adop/file"))
    assert sorted(tmp_path.iterdir()) == before


def test_others_may_read_what_they_may_read_of_other_files(tmp_path: Path):
    """A library may write a file that only its owner reads."""

    def write(path: Path) -> None:
        path.write_text("text")
        path.chmod(0o600)

    write_atomically(tmp_path / "own", write)
    (tmp_path / "other").write_text("text")
    assert (tmp_path / "own").stat().st_mode == (tmp_path / "other").stat().st_mode
