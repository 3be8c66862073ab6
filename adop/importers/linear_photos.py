"""Photos with linear values, for `--input-linear`: encoded copies take their place during an import."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from adop.errors import UserError
from adop.images.linear import write_encoded
from adop.images.photo_files import is_exr
from adop.importers.import_config import ImportConfig
from adop.progress import Bar
from adop.scene.scene import Photo, name_with_ending


@contextmanager
def encoded_photos(photos: list[Photo], output: Path, config: ImportConfig) -> Iterator[list[Photo]]:
    """Yield the photos, with `config.input_linear` encoded as sRGB, in PNG files beside the output that are then removed.

    EXR photos stay as they are: they are always linear.

    Raises: UserError for a photo that cannot be read, and where links were asked for.
    """
    if not config.input_linear:
        yield photos
        return
    if config.link:
        raise UserError(
            "--link and --input-linear: photos that are encoded cannot be linked; omit one of the two."
        )
    beside = output.absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.encoded", dir=beside) as folder:
        taken = {photo.name.lower() for photo in photos if is_exr(photo.file)}

        def encoded(number: int, photo: Photo) -> Photo:
            if is_exr(photo.file):
                return photo
            name = name_with_ending(photo.name, ".png", taken)
            return replace(photo, file=Path(folder, f"{number}.png"), name=name)

        result = [encoded(number, photo) for number, photo in enumerate(photos)]
        pairs = [(one.file, two.file) for one, two in zip(photos, result, strict=True) if one is not two]
        with ThreadPoolExecutor() as pool:
            done = pool.map(lambda pair: write_encoded(*pair), pairs)
            list(Bar(done, "encoding photos", len(pairs)))
        yield result
