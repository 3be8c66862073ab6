"""The blocks of stored points that views drew last, kept on a device whose memory cannot hold all of them.

A view draws few of the blocks of a large scene. Those that are not on the device yet replace the least recently used.
What a view draws does not depend on what was there before.

Source: layered point clouds (Gobbetti and Marton 2004), whose blocks are cached in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.model.point_store import StoredPoints
from adop.ops import Blocks, Points, RasterConfig, visible_blocks
from adop.ops.types import BLOCK_STEPS

COPIED = 1 << 26  # bytes that are gathered at a time on their way to the device
COARSER = math.sqrt(2)  # factor on the least radius, which halves the points of a view that needs too many
COARSEST = 1e3  # such factors together, above which nothing would be left of the picture


class BlockCache:
    """Points on a device: those of some blocks of stored points, one block in each slot.

    Args:
        stored: all points, mapped from a file.
        room: bytes that points may take on the device; it holds a block at least.
    """

    def __init__(self, stored: StoredPoints, device: torch.device, room: int) -> None:
        blocks, size = stored.blocks, stored.blocks.size
        slots = min(max(room // (size * stored.bytes_per_point), 1), len(blocks.radius))
        count = slots * size
        self.stored = stored
        normals = None if stored.normals is None else torch.zeros(count, 3, device=device)
        bounds = Blocks(
            torch.zeros(slots, 3, device=device),
            torch.zeros(slots, 3, device=device),
            torch.full(
                (slots, BLOCK_STEPS), -torch.inf, device=device
            ),  # so that no view draws an empty slot
            torch.ones(slots, dtype=torch.bool, device=device),
            size,
        )
        xyz, radius = torch.full((count, 3), torch.nan, device=device), torch.zeros(count, device=device)
        self.points = Points(xyz, radius, normals, bounds)
        self.features = torch.zeros(count, stored.features.shape[1], device=device)
        self._table = blocks.to(device)  # of all blocks
        self._slot_of_block = torch.full((len(blocks.radius),), -1)
        self._block_in_slot = torch.full((slots,), -1)
        self._used = torch.zeros(slots, dtype=torch.long)  # the call of `bring` that last needed each slot
        self._calls = 0

    def bring(self, cameras: Sequence[Camera], config: RasterConfig) -> float:
        """Bring the blocks that cameras see to the device.

        Returns a factor on `radius_threshold` with which they are to be drawn: 1, or more where a view at full detail
        needs more blocks than there is room for.

        Raises: UserError where there is no room for a view at any detail.
        """
        factor = 1.0
        needed = self._visible(cameras, config)
        while len(needed) > len(self._used):
            factor *= COARSER
            if config.radius_threshold == 0 or factor > COARSEST:
                raise UserError(
                    f"a view needs {len(needed):,} blocks of points, and the device has room for {len(self._used):,}; "
                    "use --device cpu, which reads them from the file"
                )
            needed = self._visible(
                cameras, replace(config, radius_threshold=factor * config.radius_threshold)
            )
        self._calls += 1
        slots = self._slot_of_block[needed]
        self._used[slots[slots >= 0]] = self._calls
        missing = needed[slots < 0]
        self._load(missing, self._used.argsort(stable=True)[: len(missing)])
        return factor

    def _visible(self, cameras: Sequence[Camera], config: RasterConfig) -> Tensor:
        """Return the numbers, on the CPU, of the blocks that cameras see."""
        seen = [visible_blocks(camera, self._table, config) for camera in cameras]
        return torch.stack(seen).any(0).nonzero()[:, 0].cpu()

    def _load(self, blocks: Tensor, slots: Tensor) -> None:
        """Put blocks into slots, in place of what is there. Where that is interrupted, the rest counts as absent."""
        left = self._block_in_slot[slots]
        self._slot_of_block[left[left >= 0]] = -1
        self._block_in_slot[slots] = -1
        bounds, emptied = self.points.blocks, slots.to(self.features.device)
        assert bounds is not None
        bounds.radius[emptied], bounds.falling[emptied] = -torch.inf, True
        step = max(COPIED // (self._table.size * self.stored.bytes_per_point), 1)
        for first in range(0, len(blocks), step):
            some, places = blocks[first : first + step], slots[first : first + step]
            self._copy(some, places)
            self._slot_of_block[some], self._block_in_slot[places] = places, some
            self._used[places] = self._calls

    def _copy(self, blocks: Tensor, slots: Tensor) -> None:
        stored, own, size = self.stored, self.points, self._table.size
        index, place = blocks.to(self.features.device), slots.to(self.features.device)
        pairs = (
            (stored.xyz, own.xyz, torch.nan),
            (stored.radius, own.radius, 0.0),
            (stored.features, self.features, 0.0),
            (stored.normals, own.normals, 0.0),
        )
        for source, target, missing in pairs:
            if source is None or target is None:
                continue
            rows = source.new_full((len(blocks), size, *source.shape[1:]), missing)
            for row, block in zip(rows, blocks.tolist(), strict=True):
                part = source[block * size : (block + 1) * size]
                row[: len(part)] = part  # the last block of all may be shorter
            target.view(-1, size, *source.shape[1:])[place] = rows.to(target.device)
        assert own.blocks is not None
        for name in ("lower", "upper", "falling", "radius"):  # from the radius on they are drawn
            getattr(own.blocks, name)[place] = getattr(self._table, name)[index]
