"""The town square: houses, a fountain with a statue, trees, a bell tower, hills.

Metres, z up. The fountain is at the origin, the photographer south of it (negative y) and facing north.
"""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

import itertools

import numpy as np

from adop.scenes.furniture import bench, bicycle, bunting, cafe, fence, hedge, lamp, pots, tree
from adop.scenes.houses import STONE, WHITE, distant_houses, houses, tower
from adop.scenes.mesh import Array, Builder, Mesh, unit
from adop.scenes.textures import TEXTURES, noise, smoothstep

SUN_DIRECTION = unit(np.array([-0.66, -0.58, 0.60]))  # from the ground to the sun


def build_world(seed: int) -> Mesh:
    """Return the mesh of the whole square; the same seed gives the same mesh."""
    rng = np.random.default_rng([seed, 100])
    builder = Builder(tuple(TEXTURES))
    ground(builder, rng)
    houses(builder)
    tower(builder)
    distant_houses(builder)
    fountain(builder, rng)
    tree(builder, rng, np.array([-5.6, 4.6, 0]), 5.6, 5200)
    tree(builder, rng, np.array([8.3, 8.6, 0]), 4.4, 3000)
    tree(builder, rng, np.array([-9.6, 17.0, 0]), 7.0, 2600)
    for x, y in ((3.7, 2.9), (-7.6, 0.2), (-2.6, 7.6)):
        lamp(builder, np.array([x, y, 0.0]))
    for x, y, turn in ((5.6, 4.4, -0.7), (-3.2, 4.4, 0.5), (6.8, 0.7, -1.5)):
        bench(builder, np.array([x, y, 0.0]), turn)
    fence(builder, np.array([5.4, 6.6]), np.array([11.0, 6.6]))
    fence(builder, np.array([5.4, 6.6]), np.array([5.4, 9.8]))
    hedge(builder, rng)
    cafe(builder, rng)
    bicycle(builder, np.array([3.75, 2.45, 0.0]), 0.35)
    bunting(builder, rng)
    pots(builder, rng)
    return builder.mesh()


def ground(builder: Builder, rng: np.random.Generator) -> None:
    """Add cobbles, flagstones around the fountain, and meadows as far as the hills."""
    for x0, y0, width, depth, cell in (
        (-16, -16, 32, 12, 0.8),
        (-16, -4, 32, 14, 0.22),
        (-16, 10, 32, 10, 0.8),
    ):
        builder.rectangle((x0, y0, 0), (width, 0, 0), (0, depth, 0), "cobble", cell=cell)
    angle, radius = np.meshgrid(
        np.linspace(0, 2 * np.pi, 97), np.array([1.6, 1.9, 2.3, 2.7, 3.1, 3.5]), indexing="xy"
    )
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full_like(angle, 0.03)], -1)
    builder.grid(disc[:, ::-1], disc[:, ::-1, :2], "flagstone", normals=np.zeros_like(disc) + [0, 0, 1.0])
    builder.lathe((0, 0, 0), [(3.5, 0), (3.5, 0.03), (3.499, 0.031)], "flagstone", sides=96)
    angle, r = np.meshgrid(np.linspace(0, 2 * np.pi, 361), 21 * (1.065 ** np.arange(52)), indexing="xy")
    bumps = noise(rng, 1.9, 1, 40, 512)
    lookup = bumps[(r * np.sin(angle) / 2.2).astype(int) % 512, (r * np.cos(angle) / 2.2).astype(int) % 512]
    z = (
        smoothstep(70, 380, r) * (34 + 17 * lookup + 10 * np.sin(3 * angle + 1) + 8 * np.sin(7 * angle))
        - 0.03
    )
    land = np.stack([r * np.cos(angle), r * np.sin(angle), z], -1)[:, ::-1]
    builder.grid(land, land[..., :2], "meadow")
    builder.rectangle((-22, -22, -0.02), (44, 0, 0), (0, 44, 0), "meadow", cell=2.0)


def fountain(builder: Builder, rng: np.random.Generator) -> None:
    """Add a basin, water, a pedestal with four jets, and a bronze statue."""
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
    profile = np.concatenate([np.linspace(p, q, 4)[:-1] for p, q in itertools.pairwise(basin)] + [basin[-1:]])
    builder.lathe((0, 0, 0), profile, "ashlar", STONE, sides=96)
    angle, r = np.meshgrid(np.linspace(0, 2 * np.pi, 65), np.linspace(0.3, 1.56, 6), indexing="xy")
    pool = np.stack([r * np.cos(angle), r * np.sin(angle), np.full_like(r, 0.52)], -1)[:, ::-1]
    builder.grid(pool, pool[..., :2], "water", normals=np.zeros_like(pool) + [0, 0, 1.0])
    builder.box((0, 0, 0.85), (1.0, 1.0, 0.9), "ashlar", WHITE, 0.4, 0.08)
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
    builder.lathe((0, 0, 0), column, "ashlar", STONE, sides=48)
    for k in range(4):
        a = 0.4 + k * np.pi / 2
        spout = np.array(
            [[np.cos(a) * q, np.sin(a) * q, z] for q, z in ((0.45, 1.1), (0.62, 1.12), (0.75, 1.06))]
        )
        builder.tube(spout, [0.05, 0.04, 0.035], "bronze")
        t = np.linspace(0, 1, 12)
        jet = np.stack(
            [np.cos(a) * (0.75 + 0.4 * t), np.sin(a) * (0.75 + 0.4 * t), 1.06 + 0.02 * t - 0.55 * t**2], 1
        )
        builder.tube(jet, 0.012 + 0.008 * t, "water", (9, 9, 9), 6)
    statue(builder, np.array([0, 0, 2.16]))


def statue(builder: Builder, base: Array) -> None:
    """Add a robed figure with a raised arm that holds a staff; its feet are at `base`."""

    def fold(angle, height):
        depth = 0.13 * np.clip(1.15 - height, 0.05, 1)
        return (
            1
            + depth * np.sin(9 * angle + 2.5 * np.sin(2 * angle) + 1.5 * height)
            + 0.4 * depth * np.sin(17 * angle - height * 3)
        )

    radius = [0.42, 0.40, 0.35, 0.30, 0.25, 0.21, 0.23, 0.25, 0.24, 0.14, 0.075, 0.07]
    height = [0, 0.1, 0.35, 0.65, 0.9, 1.02, 1.15, 1.32, 1.42, 1.5, 1.53, 1.62]
    t, knots = np.linspace(0, len(radius) - 1, 60), np.arange(len(radius))
    robe = np.stack([np.interp(t, knots, radius), np.interp(t, knots, height)], 1)
    builder.lathe(base, robe, "bronze", sides=72, fold=fold)
    builder.ellipsoid(base + [0, -0.02, 1.74], (0.115, 0.135, 0.16), "bronze", sides=28)
    builder.ellipsoid(
        base + [0, 0.03, 1.78],
        (0.14, 0.15, 0.14),
        "bronze",
        sides=28,
        bump=lambda d: 1 + 0.06 * np.sin(14 * d[..., 0] + 9 * d[..., 2]),
    )
    builder.ellipsoid(base + [0, -0.15, 1.73], (0.022, 0.035, 0.03), "bronze", sides=10)
    raised = base + np.array([[0.2, 0, 1.4], [0.36, -0.05, 1.45], [0.5, -0.08, 1.66], [0.55, -0.1, 1.95]])
    lowered = base + np.array(
        [[-0.2, 0, 1.4], [-0.35, -0.08, 1.2], [-0.38, -0.25, 1.02], [-0.34, -0.42, 1.08]]
    )
    builder.tube(raised, [0.1, 0.085, 0.07, 0.05], "bronze", sides=14)
    builder.tube(lowered, [0.1, 0.085, 0.07, 0.05], "bronze", sides=14)
    builder.ellipsoid(raised[-1] + [0, 0, 0.06], (0.05, 0.04, 0.08), "bronze", sides=14)
    builder.tube([raised[-1] + [0, 0, -0.5], raised[-1] + [0, 0, 0.75]], 0.016, "bronze", sides=8)
    builder.ellipsoid(raised[-1] + [0, 0, 0.8], (0.08, 0.08, 0.08), "bronze", (3.5, 2.2, 0.8), sides=16)
    builder.box(lowered[-1] + [0, -0.05, 0.03], (0.2, 0.14, 0.28), "bronze", (1, 1, 1), 0.2)
