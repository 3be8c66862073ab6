"""Small and thin objects: trees, lamps, benches, a fence, a hedge, a café, a bicycle, bunting, flower pots."""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

import numpy as np

from adop.scenes.mesh import Array, Builder, unit

DARK = (0.35, 0.35, 0.38)


def tree(builder: Builder, rng: np.random.Generator, foot: Array, height: float, count: int) -> None:
    """Add a tree: a bent trunk, three generations of branches, and `count` leaves in clusters on the twigs."""
    tips: list[Array] = []

    def branch(start: Array, direction: Array, length: float, radius: float, level: int) -> None:
        steps = 6
        bend = unit(direction + rng.normal(size=3) * 0.25 + [0, 0, 0.25])
        t = np.linspace(0, 1, steps)[:, None]
        path = start + length * (t * direction * (1 - 0.5 * t) + 0.5 * t * t * bend)
        builder.tube(
            path,
            np.linspace(radius, radius * (0.62 if level < 3 else 0.3), steps),
            "bark",
            sides=12 - 2 * level,
        )
        if level == 3:
            tips.extend(path[2:])
            return
        for k in range(4 if level else 6):
            at = path[-1] if k == 0 else start + (path[-1] - start) * rng.uniform(0.62, 1.0)
            turn = 2.4 * k + rng.uniform(-0.4, 0.4)
            side = np.array([np.cos(turn), np.sin(turn), rng.uniform(0.1, 0.7)])
            branch(
                at, unit(direction * 0.75 + side), length * rng.uniform(0.55, 0.75), radius * 0.55, level + 1
            )

    branch(foot, unit(np.array([0.06, 0.02, 1.0])), height * 0.42, height * 0.034, 0)
    centres = np.array(tips)[rng.integers(0, len(tips), count)] + rng.normal(size=(count, 3)) * height * 0.035
    shade = (
        rng.uniform(0.72, 1.05, (count, 1)) * [0.62, 0.78, 0.36] * (1 + 0.08 * rng.normal(size=(count, 3)))
    )
    builder.leaves(centres, rng.uniform(0.08, 0.14, count), rng, "leaf", np.clip(shade, 0.1, 1.4))


def lamp(builder: Builder, foot: Array) -> None:
    """Add a cast-iron street lamp with a lantern, 3.6 m high."""
    post = [
        (0.17, 0),
        (0.17, 0.12),
        (0.12, 0.18),
        (0.10, 0.5),
        (0.12, 0.55),
        (0.06, 0.65),
        (0.045, 1.6),
        (0.065, 1.63),
        (0.04, 1.68),
        (0.035, 2.55),
        (0.06, 2.6),
        (0.03, 2.66),
        (0.03, 2.72),
        (0.14, 2.8),
    ]
    builder.lathe(foot, post, "iron", DARK, 20)
    builder.tube(foot + np.array([[-0.4, 0, 2.45], [0.4, 0, 2.45]]), 0.014, "iron", DARK, 6)
    builder.lathe(foot, [(0.13, 2.8), (0.2, 3.22)], "glass", (5, 5, 4.6), 6)
    builder.lathe(
        foot,
        [(0.27, 3.22), (0.26, 3.25), (0.08, 3.42), (0.05, 3.44), (0.03, 3.55), (0.001, 3.6)],
        "iron",
        DARK,
        6,
    )
    for k in range(6):
        a = np.pi / 3 * k
        c, s = np.cos(a), np.sin(a)
        builder.tube(
            foot + np.array([[0.135 * c, 0.135 * s, 2.8], [0.205 * c, 0.205 * s, 3.22]]),
            0.013,
            "iron",
            DARK,
            6,
        )


def bench(builder: Builder, foot: Array, turn: float) -> None:
    """Add a park bench of wooden slats on iron sides; `turn` is in radians, at 0 its back is to the north."""
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])

    def in_world(p) -> Array:
        return foot + np.asarray(p, float) @ rotation

    for k in range(5):
        builder.box(
            in_world((0, -0.25 + 0.11 * k, 0.45)), (1.8, 0.085, 0.035), "wood", (0.75, 0.45, 0.22), turn, 0.15
        )
    for k in range(4):
        builder.box(
            in_world((0, 0.27 + 0.03 * k, 0.58 + 0.12 * k)),
            (1.8, 0.03, 0.09),
            "wood",
            (0.75, 0.45, 0.22),
            turn,
            0.15,
        )
    for x in (-0.75, 0.75):
        for path in (
            [(x, -0.28, 0), (x, -0.26, 0.43), (x, 0.22, 0.43)],
            [(x, 0.3, 0), (x, 0.22, 0.43), (x, 0.4, 1.02)],
            [(x, -0.27, 0.43), (x, -0.27, 0.66), (x, 0.29, 0.68)],
        ):
            builder.tube(np.array([in_world(p) for p in path]), 0.022, "iron", DARK, 8)


def fence(builder: Builder, start: Array, end: Array) -> None:
    """Add a fence: pointed iron rods 11 cm apart, two rails, and brick pillars at the ends."""
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    for distance in np.arange(0.3, length - 0.25, 0.11):
        x, y = start + along * distance
        builder.tube([(x, y, 0.1), (x, y, 1.28)], 0.011, "iron", DARK, 6)
        builder.lathe((x, y, 0), [(0.02, 1.27), (0.022, 1.3), (0.001, 1.4)], "iron", (0.9, 0.75, 0.35), 6)
    for z in (0.22, 1.12):
        builder.tube([(*(start + along * 0.2), z), (*(end - along * 0.2), z)], 0.016, "iron", DARK, 6)
    for p in (start, end):
        builder.box((*p, 0.75), (0.4, 0.4, 1.5), "brick", (1, 1, 1), 0, 0.12)
        builder.box((*p, 1.55), (0.5, 0.5, 0.1), "ashlar", (1, 0.97, 0.92))
        builder.ellipsoid((*p, 1.74), (0.15, 0.15, 0.15), "ashlar", (1, 0.97, 0.92))


def hedge(builder: Builder, rng: np.random.Generator) -> None:
    """Add a clipped hedge behind the fence, and flowers in front of it."""

    def leafy(low, high, count: int, tint) -> None:
        p = rng.uniform(low, high, (count, 3))
        face = rng.integers(0, 3, count)
        p[face == 0, 2] = high[2]
        p[face == 1, 1] = low[1]
        p[face == 2, 0] = low[0]
        shade = rng.uniform(0.5, 1.05, (count, 1)) * np.asarray(tint)
        builder.leaves(
            p + rng.normal(size=p.shape) * 0.03, rng.uniform(0.045, 0.08, count), rng, "leaf", shade
        )

    builder.box((8.6, 7.65, 0.4), (5.2, 0.6, 0.8), "meadow", (0.5, 0.6, 0.5), 0, 0.2)
    leafy((5.9, 7.3, 0.02), (11.3, 8.0, 0.88), 6000, (0.42, 0.62, 0.25))
    builder.rectangle((5.5, 6.7, 0.04), (6.0, 0, 0), (0, 4.0, 0), "meadow", (1.3, 1.3, 1.0), 0.3)
    for colour in ((1.5, 0.25, 0.3), (1.6, 1.3, 0.2), (1.4, 1.2, 1.6)):
        p = np.stack(
            [rng.uniform(5.7, 11.0, 130), rng.uniform(6.85, 7.2, 130), rng.uniform(0.12, 0.38, 130)], 1
        )
        builder.leaves(p, rng.uniform(0.04, 0.06, 130), rng, "leaf", np.tile(colour, (130, 1)))


def cafe(builder: Builder, rng: np.random.Generator) -> None:
    """Add awnings, signs, tables, chairs and a parasol in front of the two middle houses."""
    for x0, width, y, z in ((0.9, 4.0, 9.7, 2.75), (-4.6, 2.0, 10.0, 2.6)):
        builder.rectangle((x0, y - 1.5, z - 0.55), (width, 0, 0), (0, 1.5, 0.55), "cloth", (1, 1, 1), 0.2)
        builder.rectangle((x0, y - 1.5, z - 0.85), (width, 0, 0), (0, 0, 0.3), "cloth", (1, 1, 1), 0.15)
        for x in (x0, x0 + width):
            builder.tube([(x, y, z - 0.75), (x, y - 1.5, z - 0.55)], 0.015, "iron", DARK, 6)
    for (x, y, z), width, quarter in (((1.1, 9.58, 3.0), 3.4, 3), ((-3.7, 9.88, 2.75), 2.6, 1)):
        board = np.array([[(x, y, z), (x + width, y, z)], [(x, y, z + 0.62), (x + width, y, z + 0.62)]])
        uv = np.array([[(0, quarter), (4, quarter)], [(0, quarter + 1), (4, quarter + 1)]], float)
        builder.grid(board, uv, "lettering")
        builder.box((x + width / 2, y + 0.06, z + 0.31), (width + 0.08, 0.08, 0.7), "wood", (0.5, 0.4, 0.3))
    for x, y in ((1.4, 7.2), (3.6, 7.6), (-1.0, 7.6)):
        foot = np.array([x, y, 0.0])
        builder.lathe(
            foot,
            [
                (0.25, 0),
                (0.25, 0.03),
                (0.03, 0.05),
                (0.03, 0.72),
                (0.42, 0.725),
                (0.42, 0.75),
                (0.001, 0.751),
            ],
            "iron",
            (1.6, 1.6, 1.7),
            24,
        )
        for a in rng.uniform(0, 1) + np.array([0.3, 2.4, 4.4]):
            chair(builder, foot + 0.75 * np.array([np.cos(a), np.sin(a), 0]), a)
    pole = np.array([1.4, 7.2, 0.0])
    builder.tube([pole, pole + [0, 0, 2.6]], 0.025, "wood", (0.8, 0.6, 0.4))
    builder.lathe(
        pole, [(1.5, 2.12), (1.0, 2.34), (0.5, 2.52), (0.001, 2.62)], "paint", (1.05, 0.72, 0.25), 8
    )
    builder.lathe(pole, [(1.5, 1.98), (1.5, 2.12)], "paint", (1.05, 0.72, 0.25), 8)


def chair(builder: Builder, foot: Array, turn: float) -> None:
    """Add a folding chair that faces -(cos turn, sin turn); `turn` is in radians."""
    c, s = np.cos(turn), np.sin(turn)
    x, y = np.array([-s, c, 0]) * 0.19, np.array([c, s, 0]) * 0.19
    up = np.array([0, 0, 1.0])
    for side in (-1, 1):
        builder.tube(
            [foot + side * x - y, foot + side * x + y + up * 0.45, foot + side * x + y * 1.2 + up * 0.88],
            0.012,
            "iron",
            (0.5, 0.9, 0.7),
            6,
        )
        builder.tube(
            [foot + side * x + y, foot + side * x - y + up * 0.45], 0.012, "iron", (0.5, 0.9, 0.7), 6
        )
    builder.box(foot + up * 0.46, (0.4, 0.4, 0.025), "wood", (0.9, 0.62, 0.35), turn, 0.2)
    for z in (0.66, 0.8):
        builder.box(foot + y * 1.1 + up * z, (0.02, 0.4, 0.07), "wood", (0.9, 0.62, 0.35), turn, 0.2)


def bicycle(builder: Builder, foot: Array, turn: float) -> None:
    """Add a red bicycle that leans against a lamp; its spokes have a radius of 2.5 mm."""
    c, s = np.cos(turn), np.sin(turn)

    def in_world(points) -> Array:
        p = np.asarray(points, float)
        return foot + np.stack(
            [c * p[:, 0] + s * 0.16 * p[:, 1], s * p[:, 0] - c * 0.16 * p[:, 1], p[:, 1]], 1
        )

    for x in (-0.52, 0.52):
        a = np.linspace(0, 2 * np.pi, 33)
        ring = np.stack([x + 0.33 * np.cos(a), 0.34 + 0.33 * np.sin(a)], 1)
        builder.tube(in_world(ring), 0.017, "iron", (0.25, 0.25, 0.25), 8)
        for k in range(14):
            q = 2 * np.pi * k / 14
            builder.tube(
                in_world([(x, 0.34), (x + 0.32 * np.cos(q), 0.34 + 0.32 * np.sin(q))]),
                0.0025,
                "iron",
                (2, 2, 2),
                4,
            )
    bars = [
        [(-0.52, 0.34), (-0.08, 0.3), (-0.18, 0.82)],
        [(-0.52, 0.34), (-0.15, 0.74), (0.38, 0.78)],
        [(-0.08, 0.3), (0.38, 0.7), (0.36, 0.92)],
        [(0.38, 0.74), (0.52, 0.34)],
    ]
    for bar in bars:
        builder.tube(in_world(bar), 0.018, "paint", (0.75, 0.08, 0.06), 8)
    builder.tube(in_world([(0.3, 0.96), (0.36, 0.93), (0.46, 0.97)]), 0.014, "iron", DARK, 8)
    builder.ellipsoid(in_world([(-0.2, 0.86)])[0], (0.14, 0.08, 0.04), "wood", (0.35, 0.2, 0.1))


def bunting(builder: Builder, rng: np.random.Generator) -> None:
    """Add strings of small flags across the square."""
    colours = np.array(
        [(0.9, 0.15, 0.12), (0.95, 0.75, 0.15), (0.15, 0.35, 0.75), (0.15, 0.55, 0.3), (1, 1, 0.95)]
    )
    lines = [
        ((-11.9, -1.0, 6.3), (-4.8, 9.7, 5.3), 1.0),
        ((-4.8, 9.7, 5.3), (12.0, 4.5, 5.6), 1.5),
        ((-11.9, 4.0, 5.2), (0.6, 9.6, 5.6), 1.1),
    ]
    for start, end, sag in lines:
        t = np.linspace(0, 1, 60)[:, None]
        path = np.array(start) * (1 - t) + np.array(end) * t - np.array([0, 0, 4 * sag]) * t * (1 - t)
        builder.tube(path, 0.007, "iron", (0.8, 0.8, 0.8), 5)
        for k in range(2, 58, 2):
            along = unit(path[k + 1] - path[k]) * 0.13
            tip = (path[k] + path[k + 1]) / 2 - [0, 0, 0.32] + rng.normal(size=3) * 0.04
            flag = np.stack([path[k] - along, path[k] + along, tip])
            normal = np.cross(flag[1] - flag[0], flag[2] - flag[0])
            builder.add(
                flag,
                np.tile(normal, (3, 1)),
                flag[:, ::2],
                np.array([[0, 1, 2]]),
                "paint",
                colours[(k // 2) % 5],
            )


def pots(builder: Builder, rng: np.random.Generator) -> None:
    """Add terracotta pots with plants, and a few barrels."""
    positions = [
        (-1.9, 9.3),
        (-0.1, 9.2),
        (5.1, 9.1),
        (-4.8, 9.3),
        (-10.9, -2.1),
        (-10.9, 0.6),
        (11.0, 5.6),
        (11.0, -0.6),
        (2.9, -2.6),
        (-2.9, -2.6),
        (-3.2, 2.4),
        (3.1, 2.6),
    ]
    for k, (x, y) in enumerate(positions):
        foot = np.array([x, y, 0.0])
        if k % 4 == 3:
            builder.lathe(
                foot,
                [(0.28, 0), (0.33, 0.2), (0.35, 0.42), (0.33, 0.64), (0.28, 0.84), (0.24, 0.8)],
                "wood",
                (0.7, 0.45, 0.25),
                28,
            )
        else:
            builder.lathe(
                foot,
                [(0.2, 0), (0.3, 0.42), (0.34, 0.43), (0.34, 0.52), (0.29, 0.52), (0.28, 0.45)],
                "plaster",
                (0.85, 0.42, 0.25),
                28,
            )
        builder.lathe(
            foot, [(0.29, 0.44 + 0.3 * (k % 4 == 3)), (0.001, 0.46 + 0.3 * (k % 4 == 3))], "bark", sides=16
        )
        count = 320
        p = (
            foot
            + [0, 0, 0.78 + 0.25 * (k % 4 == 3)]
            + unit(rng.normal(size=(count, 3))) * rng.uniform(0.12, 0.34, (count, 1)) * [1, 1, 0.9]
        )
        tint = rng.uniform(0.5, 1.1, (count, 1)) * [0.5, 0.75, 0.3]
        tint[::6] = [(1.6, 0.3, 0.45), (1.6, 1.2, 0.3), (1.1, 0.5, 1.4)][k % 3]
        builder.leaves(p, rng.uniform(0.05, 0.1, count), rng, "leaf", tint)
