"""How much memory a training will need, estimated before it starts, and what to change where it will not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from adop.config import TrainConfig
from adop.run.photos.photo_lookup import MOST_PIXELS
from adop.run.run import Run
from adop.scene.photo_cache import CACHE_BYTES

GIB = 2**30
# Measured on the CPU as the growth of the process's memory, and rounded up; a GPU's own use has not been measured.
PROGRAM_BYTES = 450 << 20  # torch, and what else is loaded
CUDA_BUILD_BYTES = 350 << 20  # what torch takes more where it is built for CUDA, on a CPU too
BYTES_PER_SAMPLE = 32  # of a point that a photo shows, before the first step
BYTES_PER_START_POINT = 600  # of a point of the scene, while colours and exposures are fitted
SHOWN_SHARE = 0.5  # of a photo's pixels that show a point of their own
BYTES_PER_CHANNEL = (
    20  # of a point's features: the value, its gradient, two moments, and a copy while points are added
)
BYTES_PER_POINT = 200  # positions, normals, blocks, and where it lies in each crop
BYTES_PER_ACTIVATION = 25  # of a crop's pixel, for each channel of the network
BYTES_PER_PIXEL = 120  # of a crop, besides
BYTES_PER_PICTURE_PIXEL = 600  # of a whole photo that is rendered
CONTAINER_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
TIGHT = 0.9  # of the free memory, above which other programs may make it too little


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training needs at once, by what they are for."""

    photos: int  # pixels that are kept, and those that other views look up
    points: int
    samples: int  # what photos show of the points, before the first step
    step: int  # a step's crops, or a whole picture, whichever takes more
    program: int

    @property
    def total(self) -> int:
        """All of it: the samples are gone before the first step."""
        return self.program + self.photos + self.points + max(self.samples, self.step)


def estimate_memory(run: Run) -> MemoryEstimate:
    """Return what training a run will need on a CPU. On a GPU, photos, points and steps need about as much there."""
    config, lenses = run.config, run.scene.lenses
    pixels = [lenses[photo.lens].width * lenses[photo.lens].height for photo in run.scene.photos]
    count = max(len(run.pipeline.points), config.densify.max_points if config.densify.enabled else 0)
    channels = run.pipeline.points.features.shape[1]
    sides = (min(lenses[photo.lens].width, lenses[photo.lens].height) for photo in run.scene.photos)
    crops = config.batch * min(config.crop, max(sides)) ** 2
    activations = BYTES_PER_PIXEL + BYTES_PER_ACTIVATION * config.network.width
    samples = sum(min(round(SHOWN_SHARE * pixels[photo]), count) for photo in run.split["train"])
    return MemoryEstimate(
        photos=min(CACHE_BYTES, 3 * sum(pixels)) + _looked_up_bytes(config, sum(pixels)),
        points=count * (BYTES_PER_POINT + BYTES_PER_CHANNEL * channels),
        samples=BYTES_PER_SAMPLE * samples + BYTES_PER_START_POINT * len(run.pipeline.points),
        step=max(crops * activations, max(pixels) * BYTES_PER_PICTURE_PIXEL),
        program=PROGRAM_BYTES + (0 if torch.version.cuda is None else CUDA_BUILD_BYTES),
    )


def _looked_up_bytes(config: TrainConfig, pixels: int) -> int:
    """Return what photos take that other views look up: three channels, and a quarter of a depth, for each pixel."""
    return 4 * min(pixels, MOST_PIXELS) if config.network.photos > 0 else 0


def free_memory(device: torch.device) -> int:
    """Return the bytes that this program may still take on a device, within its container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available, left = psutil.virtual_memory().available, left_in_container()
    return available if left is None else min(available, left)


def memory_advice(estimate: MemoryEstimate, free: int, config: TrainConfig) -> str:
    """Return a sentence on the memory that is needed, with what to change where it may not fit."""
    needed = f"memory: about {estimate.total / GIB:.1f} GiB will be needed, {free / GIB:.1f} GiB are free"
    if estimate.total < TIGHT * free:
        return needed
    changes = {
        f"--densify.max-points {config.densify.max_points // 2} (fewer points)": estimate.points,
        f"--crop {max(16, config.crop // 2)} or --batch {max(1, config.batch // 2)} (smaller steps)": estimate.step,
        "smaller or fewer photos (--longest-side of `adop import` and `adop capture`)": max(
            estimate.photos, estimate.samples
        ),
    }
    ordered = sorted(changes, key=lambda change: -changes[change])
    return f"{needed}: the run may end for lack of memory. What saves most comes first: {'; '.join(ordered)}"


def left_in_container(groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what is left of the memory that this process's container may take; None where there is no limit.

    Args: groups: folder of the control groups, version 2 or 1.
    """
    left = []
    for limit, used in CONTAINER_FILES:
        try:
            left.append(int((groups / limit).read_text()) - int((groups / used).read_text()))
        except (OSError, ValueError):  # "max" where there is no limit
            continue
    return min(left, default=None)
