"""The buildings: fronts with recessed windows, shutters, balconies, cornices and roofs; a bell tower; distant houses.

A front is seen from the square with its start on the left; `outwards` points from the wall to the square.
"""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from adop.scenes.mesh import Array, Builder, Face, unit

GREEN, BLUE, RED = (0.10, 0.22, 0.15), (0.16, 0.26, 0.42), (0.42, 0.09, 0.07)
STONE, WHITE, DARK = (1.0, 0.97, 0.92), (1.05, 1.03, 1.0), (0.35, 0.35, 0.38)
OCHRE, ROSE, CREAM, SKY = (1.0, 0.72, 0.38), (0.92, 0.52, 0.42), (1.05, 0.97, 0.78), (0.62, 0.74, 0.86)
# fmt: off
# start, end, height, material, tint, rows of openings (x of the first, step, count, then an Opening's z to colour)
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


@dataclass(frozen=True)
class Opening:
    """A window or a door; x and z, in metres, are those of its lower left corner, from the front's lower left corner."""

    x: float
    z: float
    width: float
    height: float
    kind: str  # window, shutters, balcony or door
    colour: tuple[float, float, float]  # of the door or the shutters

    def contains(self, x: float, z: float) -> bool:
        """Return whether the point (x, z) of the front lies inside the opening."""
        return self.x < x < self.x + self.width and self.z < z < self.z + self.height


@dataclass(frozen=True)
class Front:
    """A wall on the ground with its openings; metres, z up."""

    start: tuple[float, float]  # x y
    end: tuple[float, float]  # x y
    height: float
    material: str
    tint: tuple[float, float, float]
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The coordinate frame of an opening: its lower left corner, the direction along the front, and outwards."""

    corner: Array  # [3]
    along: Array  # [3] unit
    outwards: Array  # [3] unit

    def box(self, builder: Builder, centre, size, material: str = "paint", tint=WHITE) -> None:
        """Add a box; `centre` and `size` are (along, outwards, up) in this frame."""
        xyz = self.corner + self.along * centre[0] + self.outwards * centre[1] + [0, 0, centre[2]]
        builder.box(xyz, size, material, tint, float(np.arctan2(self.along[1], self.along[0])))


def houses(builder: Builder) -> None:
    """Add the houses around the square, and a garden wall."""
    for start, end, height, material, tint, rows in FRONTS:
        openings = [Opening(x + step * k, *rest) for x, step, count, *rest in rows for k in range(count)]
        front = Front(start, end, height, material, tint, tuple(openings))
        wall(builder, front)
        roof(builder, front, rise=1.6, depth=2.6)
    gate = Opening(3.0, 0, 1.3, 1.9, "door", GREEN)
    wall(builder, Front((-12.3, 11.2), (-5.0, 11.2), 1.9, "brick", (1.0, 0.92, 0.85), (gate,)))
    builder.box((-8.65, 11.2, 1.95), (7.3, 0.5, 0.12), "ashlar", STONE)


def wall(builder: Builder, front: Front, cell: float = 0.2) -> None:
    """Add a front and its openings."""
    start, end, openings = np.array([*front.start, 0.0]), np.array([*front.end, 0.0]), front.openings
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    outwards = np.cross(along, [0, 0, 1.0])
    xs = np.unique(np.round([0, length, *[q for w in openings for q in (w.x, w.x + w.width)]], 4))
    zs = np.unique(np.round([0, front.height, *[q for w in openings for q in (w.z, w.z + w.height)]], 4))
    for x0, x1 in itertools.pairwise(xs):
        for z0, z1 in itertools.pairwise(zs):
            if any(w.contains((x0 + x1) / 2, (z0 + z1) / 2) for w in openings):
                continue
            face = Face(start + along * x0 + [0, 0, z0], along * (x1 - x0), np.array([0, 0, z1 - z0]))
            builder.face(face, front.material, front.tint, cell, (x0 + start[0], z0))
    for opening in openings:
        frame = Frame(start + along * opening.x + [0, 0, opening.z], along, outwards)
        recess(builder, frame, opening)
        (door if opening.kind == "door" else window)(builder, frame, opening)
        if opening.kind in ("shutters", "balcony"):
            shutters(builder, frame, opening)
        if opening.kind == "balcony":
            balcony(builder, frame, opening)


def recess(builder: Builder, frame: Frame, opening: Opening) -> None:
    """Add the glass or the door leaf, set back from the front, the reveal around it and its stone surround."""
    corner = frame.corner
    along, up, deep = frame.along * opening.width, np.array([0, 0, opening.height]), frame.outwards * 0.24
    back, uv_offset = Face(corner - deep, along, up), (corner[0], corner[1])
    if opening.kind == "door":
        builder.face(back, "wood", opening.colour, 0.3, uv_offset)
    else:
        builder.face(back, "glass", (1, 1, 1), 0.3, uv_offset)
    builder.rectangle(back.corner, deep, up, "plaster", STONE, 0.12)
    builder.rectangle(corner + along, -deep, up, "plaster", STONE, 0.12)
    builder.rectangle(back.corner + up, along, deep, "plaster", STONE, 0.12)
    builder.rectangle(corner, along, -deep, "ashlar", STONE, 0.12)
    width, height = opening.width, opening.height
    for x in (-0.08, width + 0.08):
        frame.box(builder, (x, 0.02, height / 2), (0.16, 0.07, height), "ashlar", STONE)
    frame.box(builder, (width / 2, 0.02, height + 0.1), (width + 0.4, 0.07, 0.2), "ashlar", STONE)


def door(builder: Builder, frame: Frame, opening: Opening) -> None:
    """Add a door's crossbars and its step."""
    width, height = opening.width, opening.height
    frame.box(builder, (width / 2, -0.2, height - 0.5), (width, 0.06, 0.07))
    frame.box(builder, (width / 2, -0.2, height / 2), (0.05, 0.06, height))
    frame.box(builder, (width / 2, 0.1, 0.06), (width + 0.5, 0.5, 0.14), "ashlar", STONE)


def window(builder: Builder, frame: Frame, opening: Opening) -> None:
    """Add a window's frame, crossbars and sill."""
    width, height = opening.width, opening.height
    for x, thick in ((0.03, 0.06), (width / 2, 0.05), (width - 0.03, 0.06)):
        frame.box(builder, (x, -0.2, height / 2), (thick, 0.06, height))
    frame.box(builder, (width / 2, -0.2, height * 0.62), (width, 0.06, 0.045))
    frame.box(builder, (width / 2, 0.07, -0.06), (width + 0.3, 0.22, 0.11), "ashlar", STONE)


def shutters(builder: Builder, frame: Frame, opening: Opening) -> None:
    """Add a pair of open, slatted shutters."""
    width, height = opening.width, opening.height
    for side in (-1, 1):
        x = width / 2 + side * (width / 2 + 0.16 + width / 4)
        frame.box(builder, (x, 0.05, height / 2), (width / 2, 0.04, height), "paint", opening.colour)
        for k in range(int(height / 0.11)):
            frame.box(
                builder, (x, 0.08, 0.08 + 0.11 * k), (width / 2 - 0.1, 0.03, 0.05), "paint", opening.colour
            )


def balcony(builder: Builder, frame: Frame, opening: Opening) -> None:
    """Add a balcony: a slab with a railing of thin rods."""
    width = opening.width
    frame.box(builder, (width / 2, 0.4, -0.16), (width + 1.5, 0.8, 0.12), "ashlar", STONE)
    frame.box(builder, (width / 2, 0.76, 0.95), (width + 1.5, 0.05, 0.05), "iron", DARK)
    for k in range(int((width + 1.4) / 0.13)):
        frame.box(builder, (-0.68 + 0.13 * k, 0.76, 0.42), (0.024, 0.024, 1.06), "iron", DARK)


def roof(builder: Builder, front: Front, rise: float, depth: float) -> None:
    """Add a cornice, a tiled roof whose ridge is `depth` behind the front and `rise` above it, gables and a chimney."""
    start, end, height = np.array([*front.start, 0.0]), np.array([*front.end, 0.0]), front.height
    along = unit(end - start)
    outwards = np.cross(along, [0, 0, 1.0])
    length, turn = np.linalg.norm(end - start), float(np.arctan2(along[1], along[0]))
    middle = (start + end) / 2 + [0, 0, height]
    for k, (drop, reach) in enumerate(((0.34, 0.10), (0.2, 0.2), (0.07, 0.32))):
        builder.box(
            middle + outwards * reach / 2 - [0, 0, drop],
            (length + 0.1 * k, reach + 0.1, 0.13),
            "ashlar",
            STONE,
            turn,
        )
    eave = start + outwards * 0.45 + [0, 0, height]
    slope = -outwards * (depth + 0.45) + [0, 0, rise]
    builder.face(Face(eave, along * length, slope), "roof", (1, 1, 1), 0.3, (start[0], 0))
    ridge = start - outwards * depth + [0, 0, height + rise]
    builder.rectangle(ridge, along * length, -outwards * depth - [0, 0, rise], "roof", (1, 1, 1), 0.5)
    for corner, sign in ((start, 1), (end, -1)):
        foot = corner - outwards * depth * (1 + sign)
        builder.rectangle(foot, outwards * depth * 2 * sign, (0, 0, height), "plaster", STONE, 0.5)
        gable = np.stack(
            [
                corner + [0, 0, height],
                corner - outwards * 2 * depth + [0, 0, height],
                corner - outwards * depth + [0, 0, height + rise],
            ]
        )
        builder.add(
            gable,
            np.tile(-along * sign, (3, 1)),
            np.array([[0, 0], [2 * depth, 0], [depth, rise]]),
            np.array([[0, 1, 2]]),
            "plaster",
            STONE,
        )
    chimney = start + along * length * 0.72 - outwards * depth * 0.6 + [0, 0, height + rise * 0.85]
    builder.box(chimney, (0.6, 0.5, 1.3), "brick", (1, 1, 1), turn)
    builder.box(chimney + [0, 0, 0.7], (0.75, 0.65, 0.12), "ashlar", STONE, turn)


def tower(builder: Builder) -> None:
    """Add a bell tower with a clock, 40 m away."""
    x, y, half, height = -13.0, 37.0, 2.6, 19.0
    corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    for k in range(4):
        windows = [Opening(x, 11.2, 0.8, 2.4, "window", WHITE) for x in (1.5, 2.9)] if k == 0 else []
        ends = corners[k], corners[(k + 1) % 4]
        wall(builder, Front(*ends, height, "ashlar", (0.95, 0.86, 0.72), tuple(windows)), cell=0.8)
    for z, reach in ((14.6, 0.2), (height, 0.35), (9.8, 0.15)):
        builder.box((x, y, z), (2 * half + 2 * reach, 2 * half + 2 * reach, 0.4), "ashlar", STONE)
    builder.rectangle((x - 1.2, y - half - 0.06, 15.6), (2.4, 0, 0), (0, 0, 2.4), "clock")
    builder.lathe(
        (x, y, height), [(half * 1.5, 0), (half * 0.75, 2.6), (0.12, 6.5)], "roof", (0.55, 0.6, 0.7), sides=4
    )
    builder.tube([(x, y, height + 6), (x, y, height + 8)], 0.06, "iron", DARK)
    builder.tube([(x - 0.5, y, height + 7.3), (x + 0.5, y, height + 7.3)], 0.05, "iron", DARK)


def distant_houses(builder: Builder) -> None:
    """Add plain houses between the square and the hills."""
    rng = np.random.default_rng(5)
    for _ in range(46):
        angle, distance = rng.uniform(-0.15, np.pi + 0.15), rng.uniform(28, 95)
        x, y = distance * np.cos(angle), 4 + distance * np.sin(angle)
        width, depth, height = rng.uniform(6, 10), rng.uniform(6, 9), rng.uniform(4.5, 8)
        turn, tint = rng.uniform(-0.5, 0.5), rng.uniform([0.75, 0.6, 0.45], [1.1, 1.0, 0.9])
        if np.hypot(x + 13, y - 37) < 9 or (abs(x) < 17 and y < 24):
            continue
        builder.box((x, y, height / 2), (width, depth, height), "townhouse", tint, turn, 2.0)
        cosine, sine = np.cos(turn), np.sin(turn)
        across = np.array([cosine, sine, 0]) * (width / 2 + 0.3)
        deep = np.array([-sine, cosine, 0]) * (depth / 2 + 0.4)
        base, rise = np.array([x, y, height]), np.array([0, 0, 0.32 * depth])
        builder.rectangle(base - across - deep, 2 * across, deep + rise, "roof", (1, 1, 1), 2.0)
        builder.rectangle(base + across + deep, -2 * across, -deep + rise, "roof", (1, 1, 1), 2.0)
        for side in (-1, 1):
            gable = np.stack(
                [
                    base + side * across * 0.95 - deep,
                    base + side * across * 0.95 + deep,
                    base + side * across * 0.95 + rise,
                ]
            )
            builder.add(
                gable,
                np.tile(side * across, (3, 1)),
                np.array([[0, 0], [depth, 0], [depth / 2, 2]]),
                np.array([[0, 1, 2]]),
                "plaster",
                tint,
            )
