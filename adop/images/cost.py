"""What decoding a photo may cost, for the size of its file."""

from __future__ import annotations

import os
from pathlib import Path

from adop.errors import UserError

_SMALL_BYTES = 180_000_000  # of memory, which any photo may take; larger ones need a file in proportion to it
_MAX_COMPRESSION = 1000  # about what JPEG and PNG reach for a single colour


def check_cost(path: Path, size: tuple[int, int], pixel_bytes: int) -> None:
    """Refuse a file whose pixels would take far more memory than its size suggests.

    Args: size: width and height that its header claims; pixel_bytes: memory that the decoding takes for each pixel.
    Raises: UserError naming the file.
    """
    width, height = size
    stored = os.path.getsize(path)
    if width * height * pixel_bytes > _SMALL_BYTES + _MAX_COMPRESSION * stored:
        raise UserError(
            f"{path}: claims to be a photo of {width}x{height} pixels, far too many for its {stored} bytes; "
            "save it anew or leave it out."
        )
