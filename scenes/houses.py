"""Houses: fronts with recessed windows, shutters, balconies, cornices, roofs; a tower; the far town."""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from adop.scenes.mesh import Array, Builder, unit

GREEN, BLUE, RED = (0.10, 0.22, 0.15), (0.16, 0.26, 0.42), (0.42, 0.09, 0.07)
STONE, WHITE, DARK = (1.0, 0.97, 0.92), (1.05, 1.03, 1.0), (0.35, 0.35, 0.38)


OCHRE, ROSE, CREAM, SKY = (1.0, 0.72, 0.38), (0.92, 0.52, 0.42), (1.05, 0.97, 0.78), (0.62, 0.74, 0.86)
# fmt: off
# start, end, height, texture, tint, rows of openings: first x, step, count, z, width, height, kind, colour
FRONTS: Any = (
    ((-5.0, 10), (0.6, 10), 5.9, "plaster", OCHRE, (
        (0.8, 1.75, 3, 3.35, 0.85, 1.5, "shutters", GREEN), (2.35, 0, 1, 0, 1.2, 2.4, "door", RED),
        (0.6, 0, 1, 0.9, 1.1, 1.3, "window", BLUE), (4.2, 0, 1, 0.9, 1.0, 1.3, "window", BLUE))),
    ((0.6, 9.7), (5.3, 9.7), 6.9, "brick", (1, 1, 1), (
        (0.75, 1.35, 3, 4.3, 0.75, 1.5, "window", WHITE), (0.5, 0, 1, 0.55, 1.5, 1.7, "window", GREEN),
        (2.5, 0, 1, 0, 1.0, 2.3, "door", GREEN), (3.6, 0, 1, 0.55, 0.8, 1.7, "window", GREEN))),
    ((6.6, 11), (13, 11), 5.4, "plaster", ROSE, (
        (0.9, 2.0, 3, 3.0, 0.8, 1.4, "shutters", BLUE), (0.9, 2.0, 3, 0.7, 0.8, 1.3, "window", WHITE))),
    ((-12.5, -13), (-12.5, -5.2), 6.1, "plaster", CREAM, (
        (0.8, 1.9, 4, 3.5, 0.8, 1.4, "shutters", RED), (0.8, 3.8, 2, 0.8, 1.0, 1.4, "window", WHITE),
        (2.7, 0, 1, 0, 1.1, 2.4, "door", GREEN))),
    ((-12, -5.2), (-12, 1.0), 7.0, "ashlar", (1, 1, 1), (
        (0.8, 1.85, 3, 4.1, 1.0, 1.8, "balcony", WHITE), (0.7, 0, 1, 0.8, 1.1, 1.6, "window", WHITE),
        (2.6, 0, 1, 0, 1.3, 2.7, "door", (0.35, 0.2, 0.1)), (4.6, 0, 1, 0.8, 1.1, 1.6, "window", WHITE))),
    ((-12.3, 1.0), (-12.3, 7.6), 5.6, "plaster", SKY, (
        (0.9, 1.9, 3, 3.2, 0.8, 1.4, "shutters", WHITE), (0.9, 0, 1, 0.8, 0.9, 1.3, "window", WHITE),
        (2.8, 0, 1, 0, 1.1, 2.3, "door", BLUE), (4.7, 0, 1, 0.8, 0.9, 1.3, "window", WHITE))),
    ((12.2, 9.4), (12.2, 3.0), 6.3, "plaster", CREAM, (
        (0.8, 1.9, 3, 3.6, 0.85, 1.5, "balcony", GREEN), (0.8, 0, 1, 0.8, 1.0, 1.4, "window", WHITE),
        (2.7, 0, 1, 0, 1.2, 2.5, "door", BLUE), (4.6, 0, 1, 0.8, 1.0, 1.4, "window", WHITE))),
    ((12, 3.0), (12, -4.2), 5.6, "brick", (1.1, 0.95, 0.85), (
        (0.8, 1.7, 4, 3.2, 0.85, 1.4, "shutters", WHITE), (0.6, 0, 1, 0.7, 1.8, 1.6, "window", GREEN),
        (3.0, 0, 1, 0, 1.1, 2.3, "door", RED), (4.7, 0, 1, 0.7, 1.8, 1.6, "window", GREEN))),
    ((12.4, -4.2), (12.4, -13), 6.6, "plaster", OCHRE, (
        (0.9, 2.0, 4, 3.7, 0.8, 1.5, "shutters", GREEN), (0.9, 2.0, 4, 0.8, 0.9, 1.4, "window", WHITE))),
)
# fmt: on


def houses(b: Builder) -> None:
    """The fronts round the square with their roofs, and a garden wall."""
    for start, end, height, material, tint, rows in FRONTS:
        openings = [Opening(x + step * k, *rest) for x, step, count, *rest in rows for k in range(count)]
        wall(b, start, end, height, material, tint, openings)
        top(b, start, end, height, 1.6, 2.6)
    gate = Opening(3.0, 0, 1.3, 1.9, "door", GREEN)
    wall(b, (-12.3, 11.2), (-5.0, 11.2), 1.9, "brick", (1.0, 0.92, 0.85), [gate])
    b.box((-8.65, 11.2, 1.95), (7.3, 0.5, 0.12), "ashlar", STONE)


@dataclass(frozen=True)
class Opening:
    """A window or a door: metres from the front's lower left corner; colour of the door or shutters."""

    x: float
    z: float
    width: float
    height: float
    kind: str  # window, shutters, balcony or door
    colour: tuple[float, float, float]

    def holds(self, x: float, z: float) -> bool:
        """Whether a place on the front lies in the opening."""
        return self.x < x < self.x + self.width and self.z < z < self.z + self.height


@dataclass(frozen=True)
class Frame:
    """Where an opening sits: its lower left corner, the front's direction, and outwards."""

    corner: Array
    along: Array
    out: Array

    def bar(self, b: Builder, place, size, material: str = "paint", tint=WHITE) -> None:
        """Add a box: `place` of its centre and `size`, both (along, outwards, up)."""
        centre = self.corner + self.along * place[0] + self.out * place[1] + [0, 0, place[2]]
        b.box(centre, size, material, tint, float(np.arctan2(self.along[1], self.along[0])))


def wall(b: Builder, start, end, height: float, material: str, tint, openings, cell: float = 0.2) -> None:
    """Add a front from `start` to `end` (seen with start on the left) with its openings."""
    start, end = np.array([*start, 0.0]), np.array([*end, 0.0])
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    out = np.cross(along, [0, 0, 1.0])
    xs = np.unique(np.round([0, length, *[q for w in openings for q in (w.x, w.x + w.width)]], 4))
    zs = np.unique(np.round([0, height, *[q for w in openings for q in (w.z, w.z + w.height)]], 4))
    for x0, x1 in itertools.pairwise(xs):
        for z0, z1 in itertools.pairwise(zs):
            if any(w.holds((x0 + x1) / 2, (z0 + z1) / 2) for w in openings):
                continue
            corner = start + along * x0 + [0, 0, z0]
            b.rectangle(corner, along * (x1 - x0), (0, 0, z1 - z0), material, tint, cell, (x0 + start[0], z0))
    for w in openings:
        frame = Frame(start + along * w.x + [0, 0, w.z], along, out)
        recess(b, frame, w)
        (door if w.kind == "door" else window)(b, frame, w)
        if w.kind in ("shutters", "balcony"):
            shutters(b, frame, w)
        if w.kind == "balcony":
            balcony(b, frame, w)


def recess(b: Builder, f: Frame, w: Opening) -> None:
    """Add the panes or the door leaf at the back, the reveal, and the stone round it."""
    along, up, deep = f.along * w.width, np.array([0, 0, w.height]), f.out * 0.24
    back, shift = f.corner - deep, (f.corner[0], f.corner[1])
    if w.kind == "door":
        b.rectangle(back, along, up, "wood", w.colour, 0.3, shift)
    else:
        b.rectangle(back, along, up, "glass", (1, 1, 1), 0.3, shift)
    b.rectangle(back, deep, up, "plaster", STONE, 0.12)
    b.rectangle(f.corner + along, -deep, up, "plaster", STONE, 0.12)
    b.rectangle(back + up, along, deep, "plaster", STONE, 0.12)
    b.rectangle(f.corner, along, -deep, "ashlar", STONE, 0.12)
    for x in (-0.08, w.width + 0.08):
        f.bar(b, (x, 0.02, w.height / 2), (0.16, 0.07, w.height), "ashlar", STONE)
    f.bar(b, (w.width / 2, 0.02, w.height + 0.1), (w.width + 0.4, 0.07, 0.2), "ashlar", STONE)


def door(b: Builder, f: Frame, w: Opening) -> None:
    """Add a door's bars and its step."""
    f.bar(b, (w.width / 2, -0.2, w.height - 0.5), (w.width, 0.06, 0.07))
    f.bar(b, (w.width / 2, -0.2, w.height / 2), (0.05, 0.06, w.height))
    f.bar(b, (w.width / 2, 0.1, 0.06), (w.width + 0.5, 0.5, 0.14), "ashlar", STONE)


def window(b: Builder, f: Frame, w: Opening) -> None:
    """Add a window's cross and sill."""
    for x, thick in ((0.03, 0.06), (w.width / 2, 0.05), (w.width - 0.03, 0.06)):
        f.bar(b, (x, -0.2, w.height / 2), (thick, 0.06, w.height))
    f.bar(b, (w.width / 2, -0.2, w.height * 0.62), (w.width, 0.06, 0.045))
    f.bar(b, (w.width / 2, 0.07, -0.06), (w.width + 0.3, 0.22, 0.11), "ashlar", STONE)


def shutters(b: Builder, f: Frame, w: Opening) -> None:
    """Add a pair of open, slatted shutters."""
    for side in (-1, 1):
        x = w.width / 2 + side * (w.width / 2 + 0.16 + w.width / 4)
        f.bar(b, (x, 0.05, w.height / 2), (w.width / 2, 0.04, w.height), "paint", w.colour)
        for k in range(int(w.height / 0.11)):
            f.bar(b, (x, 0.08, 0.08 + 0.11 * k), (w.width / 2 - 0.1, 0.03, 0.05), "paint", w.colour)


def balcony(b: Builder, f: Frame, w: Opening) -> None:
    """Add a slab with a railing of thin rods."""
    f.bar(b, (w.width / 2, 0.4, -0.16), (w.width + 1.5, 0.8, 0.12), "ashlar", STONE)
    f.bar(b, (w.width / 2, 0.76, 0.95), (w.width + 1.5, 0.05, 0.05), "iron", DARK)
    for k in range(int((w.width + 1.4) / 0.13)):
        f.bar(b, (-0.68 + 0.13 * k, 0.76, 0.42), (0.024, 0.024, 1.06), "iron", DARK)


def top(b: Builder, start, end, height: float, rise: float, depth: float) -> None:
    """A cornice and a tiled roof behind the front, with a chimney."""
    start, end = np.array([*start, 0.0]), np.array([*end, 0.0])
    along = unit(end - start)
    out = np.cross(along, [0, 0, 1.0])
    length, turn = np.linalg.norm(end - start), float(np.arctan2(along[1], along[0]))
    middle = (start + end) / 2 + [0, 0, height]
    for k, (drop, reach) in enumerate(((0.34, 0.10), (0.2, 0.2), (0.07, 0.32))):
        b.box(
            middle + out * reach / 2 - [0, 0, drop],
            (length + 0.1 * k, reach + 0.1, 0.13),
            "ashlar",
            STONE,
            turn,
        )
    eave = start + out * 0.45 + [0, 0, height]
    slope = -out * (depth + 0.45) + [0, 0, rise]
    b.rectangle(eave, along * length, slope, "roof", (1, 1, 1), 0.3, (start[0], 0))
    far = start - out * depth + [0, 0, height + rise]
    b.rectangle(far, along * length, -out * depth - [0, 0, rise], "roof", (1, 1, 1), 0.5)
    for e, sign in ((start, 1), (end, -1)):
        c = e - out * depth * (1 + sign)
        b.rectangle(c, out * depth * 2 * sign, (0, 0, height), "plaster", STONE, 0.5)
        peak = np.stack(
            [
                e + [0, 0, height],
                e - out * 2 * depth + [0, 0, height],
                e - out * depth + [0, 0, height + rise],
            ]
        )
        b.add(
            peak,
            np.tile(-along * sign, (3, 1)),
            np.array([[0, 0], [2 * depth, 0], [depth, rise]]),
            np.array([[0, 1, 2]]),
            "plaster",
            STONE,
        )
    pipe = start + along * length * 0.72 - out * depth * 0.6 + [0, 0, height + rise * 0.85]
    b.box(pipe, (0.6, 0.5, 1.3), "brick", (1, 1, 1), turn)
    b.box(pipe + [0, 0, 0.7], (0.75, 0.65, 0.12), "ashlar", STONE, turn)


def tower(b: Builder) -> None:
    """A bell tower with a clock, 40 m away."""
    x, y, half, height = -13.0, 37.0, 2.6, 19.0
    corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    for k in range(4):
        holes = [Opening(z, 11.2, 0.8, 2.4, "window", WHITE) for z in (1.5, 2.9)] if k == 0 else []
        wall(b, corners[k], corners[(k + 1) % 4], height, "ashlar", (0.95, 0.86, 0.72), holes, 0.8)
    for z, reach in ((14.6, 0.2), (height, 0.35), (9.8, 0.15)):
        b.box((x, y, z), (2 * half + 2 * reach, 2 * half + 2 * reach, 0.4), "ashlar", STONE)
    b.rectangle((x - 1.2, y - half - 0.06, 15.6), (2.4, 0, 0), (0, 0, 2.4), "clock")
    b.lathe(
        (x, y, height), [(half * 1.5, 0), (half * 0.75, 2.6), (0.12, 6.5)], "roof", (0.55, 0.6, 0.7), sides=4
    )
    b.tube([(x, y, height + 6), (x, y, height + 8)], 0.06, "iron", DARK)
    b.tube([(x - 0.5, y, height + 7.3), (x + 0.5, y, height + 7.3)], 0.05, "iron", DARK)


def far_town(b: Builder) -> None:
    """Plain houses between the square and the hills."""
    rng = np.random.default_rng(5)
    for _ in range(46):
        angle, distance = rng.uniform(-0.15, np.pi + 0.15), rng.uniform(28, 95)
        x, y = distance * np.cos(angle), 4 + distance * np.sin(angle)
        width, depth, height = rng.uniform(6, 10), rng.uniform(6, 9), rng.uniform(4.5, 8)
        turn, tint = rng.uniform(-0.5, 0.5), rng.uniform([0.75, 0.6, 0.45], [1.1, 1.0, 0.9])
        if np.hypot(x + 13, y - 37) < 9 or (abs(x) < 17 and y < 24):
            continue
        b.box((x, y, height / 2), (width, depth, height), "townhouse", tint, turn, 2.0)
        c, s = np.cos(turn), np.sin(turn)
        e, f = np.array([c, s, 0]) * (width / 2 + 0.3), np.array([-s, c, 0]) * (depth / 2 + 0.4)
        base, rise = np.array([x, y, height]), np.array([0, 0, 0.32 * depth])
        b.rectangle(base - e - f, 2 * e, f + rise, "roof", (1, 1, 1), 2.0)
        b.rectangle(base + e + f, -2 * e, -f + rise, "roof", (1, 1, 1), 2.0)
        for side in (-1, 1):
            peak = np.stack(
                [base + side * e * 0.95 - f, base + side * e * 0.95 + f, base + side * e * 0.95 + rise]
            )
            b.add(
                peak,
                np.tile(side * e, (3, 1)),
                np.array([[0, 0], [depth, 0], [depth / 2, 2]]),
                np.array([[0, 1, 2]]),
                "plaster",
                tint,
            )
