"""Procedural textures: albedo and relief of brick, plaster, cobbles, tiles, wood, leaves, signs.

Each texture is a periodic square tile of TEXTURE_SIZE² texels; `TEXTURES` says how many metres it covers. There is detail
at every scale: 1/f noise for weathering, cells for bricks and stones, and relief whose slopes tilt the surface normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray
TEXTURE_SIZE = 1024  # texels along each side
MAX_SLOPE = 1.5  # slopes of the relief are clipped to ±MAX_SLOPE


def noise(
    rng: np.random.Generator, beta: float = 1.0, low: float = 1, high: float = 1e9, size: int = TEXTURE_SIZE
) -> Array:
    """Return periodic noise [size,size] of standard deviation 1.

    Its amplitude spectrum is k^-beta between the frequencies `low` and `high`, in cycles per tile.
    """
    ky, kx = np.meshgrid(np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size, indexing="ij")
    k = np.hypot(kx, ky)
    gain = np.where((k >= low) & (k <= high), np.maximum(k, 1) ** -beta, 0)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * gain, s=(size, size))
    return field / field.std()


def smoothstep(low: float, high: float, x: Array) -> Array:
    """Return 0 where x is below `low`, 1 where it is above `high`, and a smooth step in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def warp(image: Array, rng: np.random.Generator, amount: float, low: float = 2) -> Array:
    """Return the image displaced by smooth periodic noise of `amount` texels."""
    dy, dx = noise(rng, 1.6, low) * amount, noise(rng, 1.6, low) * amount
    y, x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE]
    return image[np.rint(y + dy).astype(int) % TEXTURE_SIZE, np.rint(x + dx).astype(int) % TEXTURE_SIZE]


def masonry(columns: int, rows: int, shift: float = 0.5) -> tuple[Array, Array]:
    """Return the number of the block that each texel lies in, and the texel's distance to the block's edge.

    Both are [S,S]; the distance is a fraction of the tile. Every other row is shifted by `shift` blocks.
    """
    y, x = (np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] + 0.5) / TEXTURE_SIZE
    row = np.floor(y * rows)
    across = x * columns + shift * (row % 2)
    column = np.floor(across) % columns
    edge = np.minimum(
        np.minimum(across % 1, 1 - across % 1) / columns, np.minimum(y * rows % 1, 1 - y * rows % 1) / rows
    )
    return (row * columns + column).astype(int), edge


def cells(rng: np.random.Generator, count: int, jitter: float = 0.8) -> tuple[Array, Array]:
    """Return the number of each texel's Voronoi cell, and the texel's F2−F1 distance, both [S,S].

    There are count² cells on a jittered grid. F2−F1 is the difference of the distances to the two nearest cell centres,
    in units of the grid's spacing.
    """
    offset = 0.5 + jitter * (rng.uniform(size=(count, count, 2)) - 0.5)
    y, x = (np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] + 0.5) / TEXTURE_SIZE * count
    iy, ix = y.astype(int), x.astype(int)
    first, second, number = np.full(y.shape, 9.0), np.full(y.shape, 9.0), np.zeros(y.shape, int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            jy, jx = (iy + dy) % count, (ix + dx) % count
            o = offset[jy, jx]
            d = np.hypot(iy + dy + o[..., 0] - y, ix + dx + o[..., 1] - x)
            nearer = d < first
            second = np.where(nearer, first, np.minimum(second, d))
            number = np.where(nearer, jy * count + jx, number)
            first = np.minimum(first, d)
    return number, second - first


def mix(a, b, t: Array) -> Array:
    """Return a·(1 − t) + b·t for two colours [3] or colour images [S,S,3] and weights t [S,S]."""
    return np.asarray(a, float) * (1 - t[..., None]) + np.asarray(b, float) * t[..., None]


Texture = tuple[Array, Array]  # linear albedo [S,S,3] in [0,1], relief [S,S] in metres; S = TEXTURE_SIZE


def plaster(rng: np.random.Generator) -> Texture:
    """Return weathered plaster with cracks, bare in places."""
    fine, coarse, speckle = noise(rng, 0.6, 20), noise(rng, 1.4, 1, 60), noise(rng, 1.0, 6)
    shade = 0.74 + 0.06 * fine + 0.10 * coarse + 0.05 * speckle
    crack = 1 - smoothstep(0.0, 0.05, np.abs(noise(rng, 1.5, 2, 200)))
    bare = smoothstep(1.5, 1.9, noise(rng, 1.5, 2))
    albedo = mix(shade[..., None] * [1, 0.98, 0.94], [0.36, 0.31, 0.27] * (1 + 0.2 * fine)[..., None], bare)
    return albedo * (1 - 0.35 * crack * (coarse > 0.3))[
        ..., None
    ], 0.0022 * fine - 0.01 * bare + 0.004 * coarse


def brick(rng: np.random.Generator) -> Texture:
    """Return bricks in running bond with pale mortar."""
    number, edge = masonry(16, 48)
    edge = warp(edge, rng, 1.5, 8)
    tone = rng.normal(size=number.max() + 1)[number]
    fine = noise(rng, 0.7, 12)
    mortar = 1 - smoothstep(0.0010, 0.0024, edge)
    face = (
        np.array([0.44, 0.19, 0.12]) * (1 + 0.17 * tone + 0.10 * fine)[..., None]
        + 0.04 * np.maximum(tone, 0)[..., None]
    )
    return mix(face, np.array([0.48, 0.43, 0.37]) * (1 + 0.1 * fine)[..., None], mortar), 0.008 * (
        1 - mortar
    ) + 0.0025 * fine


def ashlar(rng: np.random.Generator) -> Texture:
    """Return dressed, pitted blocks of stone with fine joints."""
    number, edge = masonry(5, 10)
    edge = warp(edge, rng, 1.2, 6)
    tone = rng.normal(size=number.max() + 1)[number]
    fine, coarse = noise(rng, 0.8, 10), noise(rng, 1.5, 1)
    joint = 1 - smoothstep(0.0012, 0.0035, edge)
    pits = smoothstep(1.9, 2.4, noise(rng, 0.6, 40))
    face = np.array([0.60, 0.55, 0.46]) * (1 + 0.12 * tone + 0.06 * fine + 0.09 * coarse)[..., None]
    albedo = mix(face, [0.25, 0.22, 0.19], np.maximum(joint * 0.8, pits * 0.5))
    return albedo, 0.010 * (1 - joint) + 0.002 * fine - 0.004 * pits


def cobble(rng: np.random.Generator) -> Texture:
    """Return round cobblestones with dirt and moss between them."""
    number, edge = cells(rng, 26, 0.55)
    edge = warp(edge, rng, 1.2, 10)
    tone, hue = rng.normal(size=(2, number.max() + 1))
    fine = noise(rng, 0.8, 15)
    joint = 1 - smoothstep(0.06, 0.17, edge)
    stone = np.array([0.36, 0.34, 0.32]) * (1 + 0.19 * tone[number] + 0.08 * fine)[..., None]
    stone = stone * (1 + 0.08 * hue[number][..., None] * [1, 0, -1])
    dirt = np.array([0.19, 0.165, 0.13]) * (1 + 0.2 * fine)[..., None]
    moss = smoothstep(0.6, 1.4, noise(rng, 1.5, 1))[..., None] * [-0.05, 0.03, -0.04]
    return mix(stone, dirt + moss, joint), 0.016 * np.sqrt(np.clip(edge, 0, 0.5)) + 0.001 * fine


def flagstone(rng: np.random.Generator) -> Texture:
    """Return flat paving stones with dark joints."""
    number, edge = masonry(5, 7, 0.37)
    edge = warp(edge, rng, 2.0, 5)
    tone, hue = rng.normal(size=(2, number.max() + 1))
    fine, coarse = noise(rng, 0.9, 8), noise(rng, 1.5, 1)
    joint = 1 - smoothstep(0.0010, 0.0032, edge)
    stone = np.array([0.50, 0.46, 0.40]) * (1 + 0.15 * tone[number] + 0.06 * fine + 0.11 * coarse)[..., None]
    stone = stone * (1 + 0.06 * hue[number][..., None] * [1, 0.1, -1])
    return mix(stone, [0.16, 0.14, 0.10], joint * 0.9), 0.008 * (1 - joint) + 0.0015 * fine


def roof(rng: np.random.Generator) -> Texture:
    """Return rows of half-round clay tiles with lichen."""
    y, x = (np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] + 0.5) / TEXTURE_SIZE
    columns, rows = 20, 12
    number = (np.floor(y * rows) * columns + np.floor(x * columns)).astype(int)
    tone, hue = rng.normal(size=(2, columns * rows))
    arch = np.abs(np.sin(np.pi * x * columns))
    step = y * rows % 1
    fine = noise(rng, 0.8, 12)
    shade = (
        1 + 0.16 * tone[number] + 0.10 * fine - 0.35 * (1 - smoothstep(0, 0.35, arch)) - 0.3 * (step < 0.1)
    )
    albedo = (
        np.array([0.50, 0.235, 0.135]) * shade[..., None] * (1 + 0.12 * hue[number][..., None] * [0, 0.6, 1])
    )
    lichen = smoothstep(1.0, 1.8, noise(rng, 1.2, 3))
    return mix(albedo, [0.42, 0.40, 0.27], lichen * 0.6), 0.028 * arch + 0.016 * (1 - step)


def wood(rng: np.random.Generator) -> Texture:
    """Return boards with grain and dark gaps."""
    boards = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE][1] * 28 / TEXTURE_SIZE
    tone = rng.normal(size=28)[boards.astype(int)]
    gap = np.minimum(boards % 1, 1 - boards % 1)
    fine = noise(rng, 0.5, 10)
    grain = np.sum([np.roll(fine, shift, 0) for shift in (0, 1, 2, 3, 5)], axis=0) / 2.2
    line = 1 - smoothstep(0.03, 0.08, gap)
    albedo = np.array([0.62, 0.60, 0.57]) * (1 + 0.1 * tone + 0.14 * grain)[..., None]
    return albedo * (1 - 0.65 * line)[..., None], 0.003 * grain - 0.006 * line


def bark(rng: np.random.Generator) -> Texture:
    """Return ridged bark."""
    _, edge = cells(rng, 40, 1.0)
    ridge = warp(edge, rng, 5, 6)
    fine = noise(rng, 0.8, 8)
    return np.array([0.30, 0.23, 0.17]) * (0.55 + 0.9 * np.clip(ridge, 0, 0.7) + 0.12 * fine)[
        ..., None
    ], 0.03 * ridge


def leaf(rng: np.random.Generator) -> Texture:
    """Return foliage."""
    fine, coarse = noise(rng, 0.7, 10), noise(rng, 1.3, 1)
    return np.array([0.55, 0.62, 0.40]) * (1 + 0.12 * fine + 0.12 * coarse)[..., None], 0.001 * fine


def iron(rng: np.random.Generator) -> Texture:
    """Return iron with patches of rust."""
    fine, rust = noise(rng, 0.8, 8), smoothstep(0.9, 1.7, noise(rng, 1.2, 3))
    return mix(
        np.array([0.30, 0.31, 0.33]) * (1 + 0.15 * fine)[..., None], [0.36, 0.20, 0.11], rust * 0.6
    ), 0.001 * fine


def bronze(rng: np.random.Generator) -> Texture:
    """Return bronze with green patina and dark streaks."""
    fine, patina = noise(rng, 0.9, 8), noise(rng, 1.4, 3)
    t = smoothstep(-0.6, 1.1, patina + 0.35 * fine)
    streak = smoothstep(0.3, 1.5, warp(noise(rng, 1.2, 8), rng, 8))
    return mix(
        mix([0.17, 0.125, 0.08], [0.24, 0.42, 0.36], t) * (1 + 0.1 * fine)[..., None],
        [0.1, 0.09, 0.07],
        streak * 0.5,
    ), 0.002 * fine


def meadow(rng: np.random.Generator) -> Texture:
    """Return grass, dry fields and woods as seen from afar."""
    fine, coarse = noise(rng, 0.6, 10), noise(rng, 1.3, 1)
    trees = smoothstep(-0.1, 0.9, noise(rng, 0.9, 4, 200))
    green = np.array([0.20, 0.27, 0.09]) * (1 + 0.25 * fine + 0.25 * coarse)[..., None]
    field = mix(green, [0.42, 0.37, 0.16], smoothstep(0.2, 1.2, coarse) * 0.7)
    return mix(field, np.array([0.05, 0.09, 0.035]) * (1 + 0.4 * fine)[..., None], trees * 0.85), 0.02 * fine


def cloth(rng: np.random.Generator) -> Texture:
    """Return cloth with red and white stripes."""
    x = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE
    stripe = smoothstep(-0.1, 0.1, np.sin(2 * np.pi * 12 * x))[None].repeat(TEXTURE_SIZE, 0)
    fine, coarse = noise(rng, 0.5, 30), noise(rng, 1.4, 2)
    shade = 1 + 0.05 * fine + 0.07 * coarse
    return mix([0.78, 0.75, 0.68], [0.58, 0.07, 0.06], stripe) * shade[..., None], 0.01 * coarse


def paint(rng: np.random.Generator) -> Texture:
    """Return white paint, worn in places."""
    fine, coarse = noise(rng, 0.7, 15), noise(rng, 1.4, 2)
    worn = smoothstep(1.4, 1.9, noise(rng, 1.1, 6))
    return mix(
        np.ones(3) * (0.8 + 0.05 * fine + 0.06 * coarse)[..., None], [0.45, 0.40, 0.33], worn * 0.6
    ), 0.002 * fine


def water(rng: np.random.Generator) -> Texture:
    """Return dark water with ripples."""
    ripple = noise(rng, 1.6, 10, 90)
    return np.array([0.045, 0.07, 0.062]) * (1 + 0.2 * ripple)[..., None], 0.006 * ripple


def glass(rng: np.random.Generator) -> Texture:
    """Return window panes with curtains behind them."""
    x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE][1] / TEXTURE_SIZE + 0.5 / TEXTURE_SIZE
    curtain = 0.5 + 0.5 * np.sin(2 * np.pi * (x * 40 + 0.35 * noise(rng, 1.6, 2)))
    drawn = smoothstep(0.1, 0.2, np.cos(2 * np.pi * (4 * x + 0.04 * noise(rng, 1.8, 2, 8))))
    wavy = noise(rng, 1.8, 4, 40)
    return mix(
        [0.035, 0.04, 0.045], np.array([0.42, 0.40, 0.36]) * (0.5 + 0.5 * curtain)[..., None], drawn * 0.8
    ), 0.0012 * wavy


def lettering(rng: np.random.Generator) -> Texture:
    """Return four shop signs, one above the other, each a quarter of the tile high."""
    image = Image.new("RGB", (TEXTURE_SIZE, TEXTURE_SIZE))
    draw = ImageDraw.Draw(image)
    signs = [("CAFE DEL SOL", "#20382c", "#f1e3b4"), ("LIBRERIA", "#5b1f1a", "#f3ead2")]
    signs += [("PANADERO", "#d9c79a", "#43301c"), ("PLAZA MAYOR", "#1f3f78", "#f4f4f0")]
    for i, (text, ground, ink) in enumerate(signs):
        top, bottom = i * TEXTURE_SIZE // 4, (i + 1) * TEXTURE_SIZE // 4
        draw.rectangle((0, top, TEXTURE_SIZE, bottom), fill=ground)
        draw.rectangle((14, top + 14, TEXTURE_SIZE - 15, bottom - 15), outline=ink, width=7)
        font = ImageFont.load_default(1000 // len(text) + 48)
        draw.text((TEXTURE_SIZE / 2, (top + bottom) / 2), text, fill=ink, font=font, anchor="mm")
    albedo = (np.asarray(image)[::-1] / 255.0) ** 2.2
    return albedo * (0.9 + 0.05 * noise(rng, 0.8, 6) + 0.05 * noise(rng, 1.4, 2))[..., None], 0.001 * noise(
        rng, 0.8, 6
    )


def clock(rng: np.random.Generator) -> Texture:
    """Return a clock face that fills the tile."""
    image = Image.new("RGB", (TEXTURE_SIZE, TEXTURE_SIZE), "#e8e0c8")
    draw = ImageDraw.Draw(image)
    half = TEXTURE_SIZE / 2
    draw.ellipse((20, 20, TEXTURE_SIZE - 20, TEXTURE_SIZE - 20), fill="#f5f1e4", outline="#2a2420", width=34)
    for hour in range(12):
        a = hour * np.pi / 6
        s, c = np.sin(a), np.cos(a)
        draw.line((half + 340 * s, half - 340 * c, half + 430 * s, half - 430 * c), fill="#2a2420", width=34)
    for angle, length, width in ((2.0, 230, 46), (5.1, 370, 30)):
        draw.line(
            (half, half, half + length * np.sin(angle), half - length * np.cos(angle)),
            fill="#1a1714",
            width=width,
        )
    return (np.asarray(image)[::-1] / 255.0) ** 2.2 * (0.9 + 0.04 * noise(rng, 1.2, 2))[..., None], np.zeros(
        (TEXTURE_SIZE, TEXTURE_SIZE)
    )


def townhouse(rng: np.random.Generator) -> Texture:
    """Return a plastered front with rows of windows, for distant houses that have no modelled windows."""
    y, x = (np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] + 0.5) / TEXTURE_SIZE * 4
    pane = (np.abs(x % 1 - 0.5) < 0.17) & (np.abs(y % 1 - 0.5) < 0.27)
    frame = (np.abs(x % 1 - 0.5) < 0.22) & (np.abs(y % 1 - 0.5) < 0.33)
    wall, relief = plaster(rng)
    wall = np.where(frame[..., None], [0.70, 0.66, 0.58], wall)
    return np.where(pane[..., None], [0.06, 0.07, 0.08], wall), relief


# name: (function that draws the texture, metres that the tile covers)
TEXTURES: dict[str, tuple[Callable, float]] = {
    **{f.__name__: (f, 4.0) for f in (plaster, brick, ashlar, cobble, flagstone, roof)},
    "wood": (wood, 3.0),
    "bark": (bark, 3.0),
    "leaf": (leaf, 2.0),
    "iron": (iron, 2.0),
    "bronze": (bronze, 2.0),
    "meadow": (meadow, 60.0),
    "cloth": (cloth, 3.6),
    "paint": (paint, 2.0),
    "water": (water, 4.0),
    "glass": (glass, 5.0),
    "lettering": (lettering, 4.0),
    "clock": (clock, 2.4),
    "townhouse": (townhouse, 10.0),
}


@dataclass(frozen=True)
class Atlas:
    """All M textures with their mip levels in one table of texels: sqrt(albedo) and two slopes, 8 bits each."""

    texels: Array  # [K,5] uint8
    start: Array  # [M,levels] row of each level's first texel
    tile: Array  # [M] metres that a tile covers
    mean: Array  # [M,3] mean albedo
    levels: int


def build_atlas(seed: int) -> Atlas:
    """Return all textures and their mip levels; the same seed gives the same texels."""
    levels, texels, start, mean, total = 8, [], [], [], 0
    for k, (draw_texture, tile) in enumerate(TEXTURES.values()):
        albedo, relief = draw_texture(np.random.default_rng([seed, k]))
        step = 2 * tile / TEXTURE_SIZE
        slope_u = (np.roll(relief, -1, 1) - np.roll(relief, 1, 1)) / step
        slope_v = (np.roll(relief, -1, 0) - np.roll(relief, 1, 0)) / step
        image = np.dstack(
            [
                np.clip(albedo, 0.004, 1),
                np.clip(slope_u, -MAX_SLOPE, MAX_SLOPE),
                np.clip(slope_v, -MAX_SLOPE, MAX_SLOPE),
            ]
        )
        mean.append(image[..., :3].mean((0, 1)))
        row = []
        for _ in range(levels):
            coded = np.concatenate(
                [np.sqrt(image[..., :3]) * 255, 127.5 + image[..., 3:] / MAX_SLOPE * 127.5], -1
            )
            texels.append(np.rint(coded).astype(np.uint8).reshape(-1, 5))
            row.append(total)
            total += len(texels[-1])
            image = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 5).mean((1, 3))
        start.append(row)
    tiles = np.array([t for _, t in TEXTURES.values()])
    return Atlas(np.concatenate(texels), np.array(start), tiles, np.array(mean), levels)
