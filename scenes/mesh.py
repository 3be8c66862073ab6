"""A triangle mesh with texture coordinates, and a builder that assembles it from boxes, surfaces of revolution and tubes.

Coordinates are in metres, z points up. Texture coordinates `uv` are metres along the surface, so that every texture keeps
its true size.
"""
# ruff: noqa: RUF005 (array + list is an addition here)

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


def unit(v: Array) -> Array:
    """Return the vectors of the last axis scaled to length one; zero vectors stay zero."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return v / np.maximum(length, 1e-12)


@dataclass(frozen=True)
class Mesh:
    """Triangles with what shading needs; V vertices, T triangles."""

    xyz: Array  # [V,3] float64, m
    normals: Array  # [V,3] unit
    uv: Array  # [V,2] m
    triangles: Array  # [T,3] int
    material: Array  # [T] int, index into Builder.materials
    tint: Array  # [T,3] factor on the texture's colour


@dataclass(frozen=True)
class Face:
    """The parallelogram corner + s·along + t·up for s, t in [0, 1]; its front is the side that along × up points to."""

    corner: Array  # [3]
    along: Array  # [3]
    up: Array  # [3]


@dataclass
class Builder:
    """Collects the parts of a mesh; `mesh()` joins them.

    Every method that adds a part takes the name of its material and a tint, a factor on the texture's colour.
    """

    materials: tuple[str, ...]
    parts: list[Mesh] = field(default_factory=list)

    def add(
        self, xyz: Array, normals: Array, uv: Array, triangles: Array, material: str, tint=(1, 1, 1)
    ) -> None:
        """Append triangles of one material; `tint` is [3], or [T,3] for one tint per triangle."""
        count = len(triangles)
        index = np.full(count, self.materials.index(material))
        colours = np.broadcast_to(np.asarray(tint, float), (count, 3))
        self.parts.append(Mesh(xyz, unit(normals), uv, triangles, index, colours))

    def mesh(self) -> Mesh:
        """Join all parts into one mesh."""
        starts = np.cumsum([0] + [len(p.xyz) for p in self.parts[:-1]])
        triangles = [p.triangles + s for p, s in zip(self.parts, starts, strict=True)]
        return Mesh(
            xyz=np.concatenate([p.xyz for p in self.parts]),
            normals=np.concatenate([p.normals for p in self.parts]),
            uv=np.concatenate([p.uv for p in self.parts]),
            triangles=np.concatenate(triangles),
            material=np.concatenate([p.material for p in self.parts]),
            tint=np.concatenate([p.tint for p in self.parts]),
        )

    def grid(
        self, xyz: Array, uv: Array, material: str, tint=(1, 1, 1), normals: Array | None = None
    ) -> None:
        """Add a surface through a grid of points [R,C,3].

        Its front is the side that (next column) × (next row) points to; without `normals` they come from the grid.
        """
        rows, columns = xyz.shape[:2]
        index = np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = (q.ravel() for q in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
        triangles = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
        if normals is None:
            normals = np.cross(np.gradient(xyz, axis=1), np.gradient(xyz, axis=0))
        self.add(xyz.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), triangles, material, tint)

    def rectangle(self, corner, along, up, material: str, tint=(1, 1, 1), cell: float = 0.25) -> None:
        """Add the face (corner, along, up) with texture coordinates that start at its corner."""
        self.face(Face(corner, along, up), material, tint, cell)

    def face(self, face: Face, material: str, tint=(1, 1, 1), cell: float = 0.25, uv_offset=(0, 0)) -> None:
        """Add a face in cells of at most `cell` metres; the texture coordinates of its corner are `uv_offset`."""
        corner, along, up = (np.asarray(q, float) for q in (face.corner, face.along, face.up))
        width, height = np.linalg.norm(along), np.linalg.norm(up)
        s = np.linspace(0, 1, max(2, int(np.ceil(width / cell)) + 1))
        t = np.linspace(0, 1, max(2, int(np.ceil(height / cell)) + 1))
        tt, ss = np.meshgrid(t, s, indexing="ij")
        xyz = corner + ss[..., None] * along + tt[..., None] * up
        uv = np.stack([ss * width + uv_offset[0], tt * height + uv_offset[1]], -1)
        normals = np.broadcast_to(np.cross(along, up), xyz.shape)
        self.grid(xyz, uv, material, tint, normals)

    def box(self, centre, size, material: str, tint=(1, 1, 1), turn: float = 0.0, cell: float = 0.3) -> None:
        """Add a box, rotated by `turn` radians about the vertical through its centre."""
        c, s = np.cos(turn), np.sin(turn)
        x = np.array([c, s, 0]) * size[0]
        y = np.array([-s, c, 0]) * size[1]
        z = np.array([0, 0, 1.0]) * size[2]
        low = np.asarray(centre, float) - (x + y + z) / 2
        uv_offset = (low[0] + low[1], low[2])
        faces = [
            Face(low, x, z),
            Face(low + x, y, z),
            Face(low + x + y, -x, z),
            Face(low + y, -y, z),
            Face(low + z, x, y),
            Face(low + y, x, -y),
        ]
        for face in faces:
            self.face(face, material, tint, cell, uv_offset)

    def lathe(self, centre, profile, material: str, tint=(1, 1, 1), sides: int = 32, fold=None) -> None:
        """Add the surface that a profile [(radius, height), …] sweeps when it turns about the vertical.

        `fold(angle, height)` scales the radius.
        """
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
        """Add the surface that a circle sweeps along a path [P,3]; `radius` is one number, or one for each point."""
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
        """Add an ellipsoid; `bump(directions [...,3])` scales its radius in each direction."""
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
        """Add a bent, diamond-shaped leaf in a random orientation at each of `centres` [N,3]; sizes [N], tints [N,3]."""
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
