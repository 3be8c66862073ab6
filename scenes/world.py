"""The place: a small town square with houses, a fountain with a statue, trees, a fence, lamps, benches, a tower, hills.

Metres, z up, the fountain at the origin, the photographer south of it (negative y) looking north.
"""

from __future__ import annotations

import numpy as np
from adop.scenes.furniture import bench, bicycle, bunting, cafe, fence, hedge, lamp, pots, tree
from adop.scenes.mesh import Array, Builder, Mesh, unit
from adop.scenes.textures import TEXTURES, noise, smoothstep

SUN = unit(np.array([-0.66, -0.58, 0.60]))  # direction to the sun
GREEN, BLUE, RED = (0.10, 0.22, 0.15), (0.16, 0.26, 0.42), (0.42, 0.09, 0.07)
STONE, WHITE, DARK = (1.0, 0.97, 0.92), (1.05, 1.03, 1.0), (0.35, 0.35, 0.38)


def build_world(seed: int) -> Mesh:
    """Build the whole square; the same seed gives the same mesh."""
    rng = np.random.default_rng([seed, 100])
    b = Builder(tuple(TEXTURES))
    ground(b, rng)
    houses(b)
    fountain(b, rng)
    tree(b, rng, np.array([-5.6, 4.6, 0]), 5.6, 5200)
    tree(b, rng, np.array([8.3, 8.6, 0]), 4.4, 3000)
    tree(b, rng, np.array([-9.6, 17.0, 0]), 7.0, 2600)
    for x, y in ((3.7, 2.9), (-7.6, 0.2), (-2.6, 7.6)):
        lamp(b, np.array([x, y, 0.0]))
    for x, y, turn in ((5.6, 4.4, -0.7), (-3.2, 4.4, 0.5), (6.8, 0.7, -1.5)):
        bench(b, np.array([x, y, 0.0]), turn)
    fence(b, np.array([5.4, 6.6]), np.array([11.0, 6.6]))
    fence(b, np.array([5.4, 6.6]), np.array([5.4, 9.8]))
    hedge(b, rng)
    cafe(b, rng)
    bicycle(b, np.array([3.75, 2.45, 0.0]), 0.35)
    bunting(b, rng)
    pots(b, rng)
    return b.mesh()


def ground(b: Builder, rng: np.random.Generator) -> None:
    """Cobbles, flagstones round the fountain, and country to the hills."""
    for x0, y0, width, depth, cell in (
        (-16, -16, 32, 12, 0.8),
        (-16, -4, 32, 14, 0.22),
        (-16, 10, 32, 10, 0.8),
    ):
        b.rectangle((x0, y0, 0), (width, 0, 0), (0, depth, 0), "cobble", cell=cell)
    angle, radius = np.meshgrid(
        np.linspace(0, 2 * np.pi, 97), np.array([1.6, 1.9, 2.3, 2.7, 3.1, 3.5]), indexing="xy"
    )
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full_like(angle, 0.03)], -1)
    b.grid(disc[:, ::-1], disc[:, ::-1, :2], "flagstone", normals=np.zeros_like(disc) + [0, 0, 1.0])
    b.lathe((0, 0, 0), [(3.5, 0), (3.5, 0.03), (3.499, 0.031)], "flagstone", sides=96)
    angle, r = np.meshgrid(np.linspace(0, 2 * np.pi, 361), 21 * (1.065 ** np.arange(52)), indexing="xy")
    bumps = noise(rng, 1.9, 1, 40, 512)
    lookup = bumps[(r * np.sin(angle) / 2.2).astype(int) % 512, (r * np.cos(angle) / 2.2).astype(int) % 512]
    z = (
        smoothstep(70, 380, r) * (34 + 17 * lookup + 10 * np.sin(3 * angle + 1) + 8 * np.sin(7 * angle))
        - 0.03
    )
    land = np.stack([r * np.cos(angle), r * np.sin(angle), z], -1)[:, ::-1]
    b.grid(land, land[..., :2], "meadow")
    b.rectangle((-22, -22, -0.02), (44, 0, 0), (0, 44, 0), "meadow", cell=2.0)


def wall(b: Builder, start, end, height: float, material: str, tint, windows, cell: float = 0.2) -> None:
    """A front from `start` to `end` (seen with start on the left), with holes `windows`: (x, z, width, height, kind, colour)."""
    start, end = np.array([*start, 0.0]), np.array([*end, 0.0])
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    out = np.cross(along, [0, 0, 1.0])
    xs = np.unique(np.round([0, length, *[q for w in windows for q in (w[0], w[0] + w[2])]], 4))
    zs = np.unique(np.round([0, height, *[q for w in windows for q in (w[1], w[1] + w[3])]], 4))
    for x0, x1 in zip(xs[:-1], xs[1:], strict=True):
        for z0, z1 in zip(zs[:-1], zs[1:], strict=True):
            middle = ((x0 + x1) / 2, (z0 + z1) / 2)
            if any(w[0] < middle[0] < w[0] + w[2] and w[1] < middle[1] < w[1] + w[3] for w in windows):
                continue
            corner = start + along * x0 + [0, 0, z0]
            b.rectangle(corner, along * (x1 - x0), (0, 0, z1 - z0), material, tint, cell, (x0 + start[0], z0))
    for x, z, width, tall, kind, colour in windows:
        opening(b, start + along * x + [0, 0, z], along, out, width, tall, kind, colour)


def opening(b: Builder, corner, along, out, width: float, tall: float, kind: str, colour) -> None:
    """A window or a door in its recess: reveal, panes, frame, sill, shutters or balcony."""
    up, deep = np.array([0, 0, 1.0]), 0.24
    back = corner - out * deep
    turn = float(np.arctan2(along[1], along[0]))
    shut = kind == "door"
    b.rectangle(
        back,
        along * width,
        up * tall,
        "wood" if shut else "glass",
        colour if shut else (1, 1, 1),
        0.3,
        tuple(corner[:2]),
    )
    for c, a, u in ((back, out * deep, up * tall), (corner + along * width, -out * deep, up * tall)):
        b.rectangle(c, a, u, "plaster", STONE, 0.12)
    b.rectangle(back + up * tall, along * width, out * deep, "plaster", STONE, 0.12)
    b.rectangle(corner, along * width, -out * deep, "ashlar", STONE, 0.12)

    def bar(
        x: float, z: float, w: float, h: float, material="paint", tint=WHITE, depth=0.06, offset=-0.2
    ) -> None:
        b.box(corner + along * x + up * z + out * offset, (w, depth, h), material, tint, turn, 0.3)

    if shut:
        bar(width / 2, tall - 0.5, width, 0.07)
        bar(width / 2, tall / 2, 0.05, tall)
        bar(width / 2, 0.06, width + 0.5, 0.14, "ashlar", STONE, 0.5, 0.1)
    else:
        for x, z, w, h in ((width / 2, tall / 2, 0.05, tall), (width / 2, tall * 0.62, width, 0.045)):
            bar(x, z, w, h)
        for x in (0.03, width - 0.03):
            bar(x, tall / 2, 0.06, tall)
        bar(width / 2, -0.06, width + 0.3, 0.11, "ashlar", STONE, 0.22, 0.07)
    for x, z, w, h in (
        (-0.08, tall / 2, 0.16, tall),
        (width + 0.08, tall / 2, 0.16, tall),
        (width / 2, tall + 0.1, width + 0.4, 0.2),
    ):
        bar(x, z, w, h, "ashlar", STONE, 0.07, 0.02)
    if kind in ("shutters", "balcony"):
        for side in (-1, 1):
            middle = width / 2 + side * (width / 2 + 0.16 + width / 4)
            bar(middle, tall / 2, width / 2, tall, "paint", colour, 0.04, 0.05)
            for k in range(int(tall / 0.11)):
                bar(middle, 0.08 + 0.11 * k, width / 2 - 0.1, 0.05, "paint", colour, 0.03, 0.08)
    if kind == "balcony":
        bar(width / 2, -0.16, width + 1.5, 0.12, "ashlar", STONE, 0.8, 0.4)
        bar(width / 2, 0.95, width + 1.5, 0.05, "iron", DARK, 0.05, 0.76)
        for k in range(int((width + 1.4) / 0.13)):
            bar(-0.68 + 0.13 * k, 0.42, 0.024, 1.06, "iron", DARK, 0.024, 0.76)


def row(
    first: float, step: float, count: int, z: float, width: float, tall: float, kind: str, colour
) -> list[tuple]:
    """`count` equal openings in a row."""
    return [(first + step * k, z, width, tall, kind, colour) for k in range(count)]


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


def houses(b: Builder) -> None:
    """The fronts round the square, a garden wall, the tower and the far town."""
    ochre, rose, cream, sky = (1.0, 0.72, 0.38), (0.92, 0.52, 0.42), (1.05, 0.97, 0.78), (0.62, 0.74, 0.86)
    fronts = [
        (
            (-5.0, 10),
            (0.6, 10),
            5.9,
            "plaster",
            ochre,
            row(0.8, 1.75, 3, 3.35, 0.85, 1.5, "shutters", GREEN)
            + [
                (2.35, 0, 1.2, 2.4, "door", RED),
                (0.6, 0.9, 1.1, 1.3, "window", BLUE),
                (4.2, 0.9, 1.0, 1.3, "window", BLUE),
            ],
        ),
        (
            (0.6, 9.7),
            (5.3, 9.7),
            6.9,
            "brick",
            (1, 1, 1),
            row(0.75, 1.35, 3, 4.3, 0.75, 1.5, "window", WHITE)
            + [
                (0.5, 0.55, 1.5, 1.7, "window", GREEN),
                (2.5, 0, 1.0, 2.3, "door", GREEN),
                (3.6, 0.55, 0.8, 1.7, "window", GREEN),
            ],
        ),
        (
            (6.6, 11),
            (13, 11),
            5.4,
            "plaster",
            rose,
            row(0.9, 2.0, 3, 3.0, 0.8, 1.4, "shutters", BLUE)
            + row(0.9, 2.0, 3, 0.7, 0.8, 1.3, "window", WHITE),
        ),
        (
            (-12.5, -13),
            (-12.5, -5.2),
            6.1,
            "plaster",
            cream,
            row(0.8, 1.9, 4, 3.5, 0.8, 1.4, "shutters", RED)
            + [*row(0.8, 3.8, 2, 0.8, 1.0, 1.4, "window", WHITE), (2.7, 0, 1.1, 2.4, "door", GREEN)],
        ),
        (
            (-12, -5.2),
            (-12, 1.0),
            7.0,
            "ashlar",
            (1, 1, 1),
            row(0.8, 1.85, 3, 4.1, 1.0, 1.8, "balcony", WHITE)
            + [
                (0.7, 0.8, 1.1, 1.6, "window", WHITE),
                (2.6, 0, 1.3, 2.7, "door", (0.35, 0.2, 0.1)),
                (4.6, 0.8, 1.1, 1.6, "window", WHITE),
            ],
        ),
        (
            (-12.3, 1.0),
            (-12.3, 7.6),
            5.6,
            "plaster",
            sky,
            row(0.9, 1.9, 3, 3.2, 0.8, 1.4, "shutters", WHITE)
            + [
                (0.9, 0.8, 0.9, 1.3, "window", WHITE),
                (2.8, 0, 1.1, 2.3, "door", BLUE),
                (4.7, 0.8, 0.9, 1.3, "window", WHITE),
            ],
        ),
        (
            (12.2, 9.4),
            (12.2, 3.0),
            6.3,
            "plaster",
            cream,
            row(0.8, 1.9, 3, 3.6, 0.85, 1.5, "balcony", GREEN)
            + [
                (0.8, 0.8, 1.0, 1.4, "window", WHITE),
                (2.7, 0, 1.2, 2.5, "door", BLUE),
                (4.6, 0.8, 1.0, 1.4, "window", WHITE),
            ],
        ),
        (
            (12, 3.0),
            (12, -4.2),
            5.6,
            "brick",
            (1.1, 0.95, 0.85),
            row(0.8, 1.7, 4, 3.2, 0.85, 1.4, "shutters", WHITE)
            + [
                (0.6, 0.7, 1.8, 1.6, "window", GREEN),
                (3.0, 0, 1.1, 2.3, "door", RED),
                (4.7, 0.7, 1.8, 1.6, "window", GREEN),
            ],
        ),
        (
            (12.4, -4.2),
            (12.4, -13),
            6.6,
            "plaster",
            ochre,
            row(0.9, 2.0, 4, 3.7, 0.8, 1.5, "shutters", GREEN)
            + row(0.9, 2.0, 4, 0.8, 0.9, 1.4, "window", WHITE),
        ),
    ]
    for start, end, height, material, tint, windows in fronts:
        wall(b, start, end, height, material, tint, windows)
        top(b, start, end, height, 1.6, 2.6)
    garden = [(-12.3, 11.2), (-5.0, 11.2)]
    wall(b, *garden, 1.9, "brick", (1.0, 0.92, 0.85), [(3.0, 0, 1.3, 1.9, "door", GREEN)])
    b.box((-8.65, 11.2, 1.95), (7.3, 0.5, 0.12), "ashlar", STONE)
    tower(b)
    far_town(b)


def tower(b: Builder) -> None:
    """A bell tower with a clock, 40 m away."""
    x, y, half, height = -13.0, 37.0, 2.6, 19.0
    corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    for k in range(4):
        holes = (
            [(1.5, 11.2, 0.8, 2.4, "window", WHITE), (2.9, 11.2, 0.8, 2.4, "window", WHITE)] if k == 0 else []
        )
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


def fountain(b: Builder, rng: np.random.Generator) -> None:
    """Basin, water, pedestal, and a bronze figure with a raised arm."""
    basin = [
        (1.95, 0.03),
        (1.95, 0.12),
        (1.78, 0.16),
        (1.76, 0.5),
        (1.92, 0.56),
        (1.95, 0.66),
        (1.9, 0.7),
        (1.6, 0.7),
        (1.56, 0.66),
        (1.55, 0.1),
    ]
    profile = np.concatenate(
        [np.linspace(p, q, 4)[:-1] for p, q in zip(basin[:-1], basin[1:], strict=True)] + [basin[-1:]]
    )
    b.lathe((0, 0, 0), profile, "ashlar", STONE, sides=96)
    angle, r = np.meshgrid(np.linspace(0, 2 * np.pi, 65), np.linspace(0.3, 1.56, 6), indexing="xy")
    pool = np.stack([r * np.cos(angle), r * np.sin(angle), np.full_like(r, 0.52)], -1)[:, ::-1]
    b.grid(pool, pool[..., :2], "water", normals=np.zeros_like(pool) + [0, 0, 1.0])
    b.box((0, 0, 0.85), (1.0, 1.0, 0.9), "ashlar", WHITE, 0.4, 0.08)
    column = [
        (0.62, 1.3),
        (0.6, 1.42),
        (0.5, 1.47),
        (0.46, 1.55),
        (0.44, 1.9),
        (0.47, 2.0),
        (0.58, 2.06),
        (0.6, 2.16),
        (0.2, 2.161),
    ]
    b.lathe((0, 0, 0), column, "ashlar", STONE, sides=48)
    for k in range(4):
        a = 0.4 + k * np.pi / 2
        spout = np.array(
            [[np.cos(a) * q, np.sin(a) * q, z] for q, z in ((0.45, 1.1), (0.62, 1.12), (0.75, 1.06))]
        )
        b.tube(spout, [0.05, 0.04, 0.035], "bronze")
        t = np.linspace(0, 1, 12)
        jet = np.stack(
            [np.cos(a) * (0.75 + 0.4 * t), np.sin(a) * (0.75 + 0.4 * t), 1.06 + 0.02 * t - 0.55 * t**2], 1
        )
        b.tube(jet, 0.012 + 0.008 * t, "water", (9, 9, 9), 6)
    statue(b, np.array([0, 0, 2.16]))


def statue(b: Builder, base: Array) -> None:
    """A robed figure: folds, shoulders, arms, head, a staff."""

    def fold(angle, height):
        depth = 0.13 * np.clip(1.15 - height, 0.05, 1)
        return (
            1
            + depth * np.sin(9 * angle + 2.5 * np.sin(2 * angle) + 1.5 * height)
            + 0.4 * depth * np.sin(17 * angle - height * 3)
        )

    robe = [
        (0.42, 0),
        (0.40, 0.1),
        (0.35, 0.35),
        (0.30, 0.65),
        (0.25, 0.9),
        (0.21, 1.02),
        (0.23, 1.15),
        (0.25, 1.32),
        (0.24, 1.42),
        (0.14, 1.5),
        (0.075, 1.53),
        (0.07, 1.62),
    ]
    t = np.linspace(0, len(robe) - 1, 60)
    robe = np.stack([np.interp(t, np.arange(len(robe)), np.array(robe)[:, k]) for k in (0, 1)], 1)
    b.lathe(base, robe, "bronze", sides=72, fold=fold)
    b.ellipsoid(base + [0, -0.02, 1.74], (0.115, 0.135, 0.16), "bronze", sides=28)
    b.ellipsoid(
        base + [0, 0.03, 1.78],
        (0.14, 0.15, 0.14),
        "bronze",
        sides=28,
        bump=lambda d: 1 + 0.06 * np.sin(14 * d[..., 0] + 9 * d[..., 2]),
    )
    b.ellipsoid(base + [0, -0.15, 1.73], (0.022, 0.035, 0.03), "bronze", sides=10)
    raised = base + np.array([[0.2, 0, 1.4], [0.36, -0.05, 1.45], [0.5, -0.08, 1.66], [0.55, -0.1, 1.95]])
    lowered = base + np.array(
        [[-0.2, 0, 1.4], [-0.35, -0.08, 1.2], [-0.38, -0.25, 1.02], [-0.34, -0.42, 1.08]]
    )
    b.tube(raised, [0.1, 0.085, 0.07, 0.05], "bronze", sides=14)
    b.tube(lowered, [0.1, 0.085, 0.07, 0.05], "bronze", sides=14)
    b.ellipsoid(raised[-1] + [0, 0, 0.06], (0.05, 0.04, 0.08), "bronze", sides=14)
    b.tube([raised[-1] + [0, 0, -0.5], raised[-1] + [0, 0, 0.75]], 0.016, "bronze", sides=8)
    b.ellipsoid(raised[-1] + [0, 0, 0.8], (0.08, 0.08, 0.08), "bronze", (3.5, 2.2, 0.8), sides=16)
    b.box(lowered[-1] + [0, -0.05, 0.03], (0.2, 0.14, 0.28), "bronze", (1, 1, 1), 0.2)
