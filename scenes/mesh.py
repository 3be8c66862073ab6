"""Mesh parts of the simulated place: boxes, lathes, tubes, leaves, grids, point_samples into one mesh.

Metres, z up. Surface coordinates `uv` are metres along the surface: every texture keeps its true size.
"""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


def unit(v: Array) -> Array:
    """Scale the last axis to length one; zero vectors stay zero."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return v / np.maximum(length, 1e-12)


@dataclass(frozen=True)
class Mesh:
    """Triangles with shading data: V vertices, T triangles."""

    xyz: Array  # [V,3] float64, m
    normals: Array  # [V,3] unit
    uv: Array  # [V,2] m
    triangles: Array  # [T,3] int
    material: Array  # [T] int, row of the material table
    tint: Array  # [T,3] colour factor of the texture


@dataclass
class Builder:
    """Collects parts; `mesh()` joins them."""

    materials: tuple[str, ...]
    parts: list[Mesh] = field(default_factory=list)

    def add(
        self, xyz: Array, normals: Array, uv: Array, triangles: Array, material: str, tint=(1, 1, 1)
    ) -> None:
        """Append one part with one material and one tint ([3], or [T,3])."""
        count = len(triangles)
        index = np.full(count, self.materials.index(material))
        colours = np.broadcast_to(np.asarray(tint, float), (count, 3))
        self.parts.append(Mesh(xyz, unit(normals), uv, triangles, index, colours))

    def mesh(self) -> Mesh:
        """Join all parts into one mesh."""
        starts = np.cumsum([0] + [len(p.xyz) for p in self.parts[:-1]])
        triangles = [p.triangles + s for p, s in zip(self.parts, starts, strict=True)]
        join = {
            name: np.concatenate([getattr(p, name) for p in self.parts]) for name in ("xyz", "normals", "uv")
        }
        material = np.concatenate([p.material for p in self.parts])
        tint = np.concatenate([p.tint for p in self.parts])
        return Mesh(**join, triangles=np.concatenate(triangles), material=material, tint=tint)

    def grid(
        self, xyz: Array, uv: Array, material: str, tint=(1, 1, 1), normals: Array | None = None
    ) -> None:
        """Add a grid of points [R,C,3]; the front is where (next column) × (next row) points."""
        rows, columns = xyz.shape[:2]
        index = np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = (q.ravel() for q in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
        triangles = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
        if normals is None:
            normals = np.cross(np.gradient(xyz, axis=1), np.gradient(xyz, axis=0))
        self.add(xyz.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), triangles, material, tint)

    def rectangle(
        self, corner, along, up, material: str, tint=(1, 1, 1), cell: float = 0.25, shift=(0, 0)
    ) -> None:
        """Add the rectangle corner + s·along + t·up, in cells of at most `cell` metres; front: along × up."""
        corner, along, up = (np.asarray(q, float) for q in (corner, along, up))
        width, height = np.linalg.norm(along), np.linalg.norm(up)
        s = np.linspace(0, 1, max(2, int(np.ceil(width / cell)) + 1))
        t = np.linspace(0, 1, max(2, int(np.ceil(height / cell)) + 1))
        tt, ss = np.meshgrid(t, s, indexing="ij")
        xyz = corner + ss[..., None] * along + tt[..., None] * up
        uv = np.stack([ss * width + shift[0], tt * height + shift[1]], -1)
        normals = np.broadcast_to(np.cross(along, up), xyz.shape)
        self.grid(xyz, uv, material, tint, normals)

    def box(self, centre, size, material: str, tint=(1, 1, 1), turn: float = 0.0, cell: float = 0.3) -> None:
        """Add a box; `turn` (radians) about the vertical."""
        c, s = np.cos(turn), np.sin(turn)
        x = np.array([c, s, 0]) * size[0]
        y = np.array([-s, c, 0]) * size[1]
        z = np.array([0, 0, 1.0]) * size[2]
        low = np.asarray(centre, float) - (x + y + z) / 2
        shift = (low[0] + low[1], low[2])
        faces = [
            (low, x, z),
            (low + x, y, z),
            (low + x + y, -x, z),
            (low + y, -y, z),
            (low + z, x, y),
            (low + y, x, -y),
        ]
        for corner, along, up in faces:
            self.rectangle(corner, along, up, material, tint, cell, shift)

    def lathe(self, centre, profile, material: str, tint=(1, 1, 1), sides: int = 32, fold=None) -> None:
        """Turn a profile [(radius, height), …] about the vertical; `fold(angle, height)` scales it."""
        profile = np.asarray(profile, float)
        angle = np.linspace(0, 2 * np.pi, sides + 1)
        radius = np.broadcast_to(profile[:, :1], (len(profile), sides + 1))
        if fold is not None:
            radius = radius * fold(angle[None], profile[:, 1:])
        z = np.broadcast_to(profile[:, 1:], radius.shape)
        xyz = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1) + np.asarray(centre, float)
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
        uv = np.stack(
            [
                radius.mean() * np.broadcast_to(angle, radius.shape),
                np.broadcast_to(arc[:, None], radius.shape),
            ],
            -1,
        )
        normals = np.cross(np.gradient(xyz, axis=1), np.gradient(xyz, axis=0))
        normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
        self.grid(xyz, uv, material, tint, normals)

    def tube(self, path, radius, material: str, tint=(1, 1, 1), sides: int = 8) -> None:
        """Sweep a circle along a path [P,3]; `radius` a number or one per point."""
        path = np.asarray(path, float)
        radius = np.broadcast_to(np.asarray(radius, float), (len(path),))
        forward = unit(np.gradient(path, axis=0))
        helper = np.where(np.abs(forward[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
        side = unit(np.cross(helper, forward))
        other = np.cross(forward, side)
        angle = np.linspace(0, 2 * np.pi, sides + 1)
        normals = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        uv = np.stack(np.broadcast_arrays(angle[None] * radius.mean(), arc[:, None]), -1)
        self.grid(path[:, None] + radius[:, None, None] * normals, uv, material, tint, normals)

    def ellipsoid(self, centre, radii, material: str, tint=(1, 1, 1), sides: int = 24, bump=None) -> None:
        """Add an ellipsoid; `bump(directions [...,3])` scales its radius."""
        v, u = np.meshgrid(
            np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1),
            np.linspace(0, 2 * np.pi, sides + 1),
            indexing="ij",
        )
        directions = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], -1)
        scale = 1.0 if bump is None else bump(directions)[..., None]
        radii = np.asarray(radii, float)
        uv = np.stack([u, v], -1) * radii.mean()
        self.grid(
            directions * radii * scale + np.asarray(centre, float), uv, material, tint, directions / radii
        )

    def leaves(
        self, centres: Array, size: Array, rng: np.random.Generator, material: str, tint: Array
    ) -> None:
        """Add a bent, diamond-shaped leaf at each centre [N,3], turned at random; tint [N,3]."""
        count = len(centres)
        normal = unit(rng.normal(size=(count, 3)) + [0, 0, 0.9])
        along = unit(np.cross(normal, rng.normal(size=(count, 3))))
        across = np.cross(normal, along)
        size = size[:, None]
        tips = [along * size, across * size * 0.45, -along * size, -across * size * 0.45]
        xyz = np.stack([centres + t for t in tips], 1)
        xyz[:, 1::2] += 0.15 * (size * normal)[:, None]
        base = np.arange(count)[:, None] * 4
        triangles = np.concatenate([base + [0, 1, 2], base + [0, 2, 3]])
        uv = np.array([[1, 0], [0, 0.45], [-1, 0], [0, -0.45]])[None] * size[..., None] + rng.uniform(
            0, 4, (count, 1, 2)
        )
        normals = np.repeat(normal, 4, axis=0)
        self.add(xyz.reshape(-1, 3), normals, uv.reshape(-1, 2), triangles, material, np.tile(tint, (2, 1)))
