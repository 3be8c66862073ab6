"""Ray tracing of the town square with Open3D: the linear radiance along rays.

The light: the sun with soft shadows (each sample sends one shadow ray to a random point of the sun's disc), the sky and
two bounces of indirect light stored at the vertices, mirror reflections of glass and water, translucent leaves, haze.
A white sheet in full sun has a radiance of about 0.7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adop.errors import UserError
from adop.scenes.mesh import Array, Mesh, unit
from adop.scenes.textures import MAX_SLOPE, TEXTURE_SIZE, TEXTURES, build_atlas, noise, smoothstep
from adop.scenes.world import SUN_DIRECTION, build_world

LIGHT_SCALE = 0.65  # puts the square's radiance in the middle of the camera's range at the scene's exposure
SUN_IRRADIANCE = LIGHT_SCALE * np.array([3.5, 3.15, 2.6], np.float32)
HAZE_RADIANCE = LIGHT_SCALE * np.array([0.50, 0.58, 0.68], np.float32)
SUN_RADIUS = 0.0075  # radians, larger than the real sun's because the air is hazy
HAZE_DISTANCE = 520.0  # metres in which haze absorbs all but 1/e of the light
SKY_SIZE = (512, 1024)  # rows, columns
# (reflectance head-on, increase at grazing angles); other materials do not reflect
REFLECTANCE = {"glass": (0.05, 0.95), "water": (0.03, 0.97), "bronze": (0.08, 0.1)}
TRANSMITTANCE = {
    "leaf": 0.55,
    "cloth": 0.25,
}  # share of the light that passes through; other materials are opaque
# Columns of the table that `World` keeps of its triangles.
CORNERS, TANGENT_U, TANGENT_V = slice(0, 24), slice(24, 27), slice(27, 30)
TINT, FACE_NORMAL = slice(30, 33), slice(33, 36)


def open3d():
    """Return the Open3D module.

    Raises: UserError where it cannot be imported.
    """
    try:
        import open3d as module
    except (ImportError, OSError) as error:
        raise UserError(
            f"make_demo: Open3D cannot be imported ({error}); install it with `pip install open3d` and, "
            "on Debian, `apt install libusb-1.0-0 libgl1 libegl1 libx11-6`"
        ) from error
    return module


@dataclass(frozen=True)
class Hits:
    """The first surface that each of R rays hits."""

    distance: Array  # [R] metres, infinite for the sky
    triangle: Array  # [R]
    weights: Array  # [R,2] barycentric weights of the second and third corner


@dataclass(frozen=True)
class Surface:
    """The surface at R points; its sides face the rays that hit it."""

    xyz: Array  # [R,3] m, moved off the surface a little, so that new rays do not hit it again
    normals: Array  # [R,3] unit, with the texture's relief
    face_normals: Array  # [R,3] unit, of the triangle
    material: Array  # [R] int


def sky_map(seed: int) -> Array:
    """Return the sky's radiance [rows,columns,3] without the sun's disc.

    Rows are elevations from -90° to 90°, columns azimuths from 0° to 360°.
    """
    rng = np.random.default_rng([seed, 200])
    rows, columns = SKY_SIZE
    elevation, azimuth = np.meshgrid(
        ((np.arange(rows) + 0.5) / rows - 0.5) * np.pi,
        (np.arange(columns) + 0.5) / columns * 2 * np.pi,
        indexing="ij",
    )
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    up = np.clip(direction[..., 2], 0, 1)[..., None]
    towards = direction @ SUN_DIRECTION
    blue = np.array([0.20, 0.40, 0.86]) * 0.62 * (1 - up) ** 0.8 + np.array([0.10, 0.23, 0.60]) * 0.55 * (
        1 - (1 - up) ** 0.8
    )
    haze = np.array([0.78, 0.80, 0.82]) * 0.75 * np.exp(-up / 0.13)
    glow = np.exp((towards - 1) / 0.20)[..., None] * [1.25, 1.02, 0.72] + np.exp((towards - 1) / 0.012)[
        ..., None
    ] * [5, 4.4, 3.6]
    plane = direction[..., :2] / (direction[..., 2:] * 0.9 + 0.16).clip(0.16)
    cover = np.zeros((rows, columns))
    for gain, scale, beta in ((1.0, 90, 1.75), (0.25, 300, 1.2)):
        field = noise(rng, beta, 2, size=TEXTURE_SIZE)
        cover += (
            gain
            * field[
                (plane[..., 1] * scale).astype(int) % TEXTURE_SIZE,
                (plane[..., 0] * scale).astype(int) % TEXTURE_SIZE,
            ]
        )
    cloud = smoothstep(0.1, 1.1, cover)[..., None] * np.clip(up / 0.06, 0, 1)
    lit = np.array([1.15, 1.10, 1.05]) * (
        0.75 + 0.35 * smoothstep(0.3, 1.8, -cover)[..., None] + 0.9 * np.exp((towards - 1) / 0.3)[..., None]
    )
    shaded = lit * (1 - 0.42 * smoothstep(0.7, 2.2, cover))[..., None]
    sky = (blue + haze) * (1 - 0.9 * cloud) + shaded * 0.9 * cloud + glow
    return (LIGHT_SCALE * sky).astype(np.float32)


class World:
    """The town square, ready for ray tracing; a camera calls `radiance`."""

    def __init__(self, seed: int, bake_rays: int = 128) -> None:
        o3d = open3d()
        self.core = o3d.core
        self.mesh: Mesh = build_world(seed)
        self.atlas = build_atlas(seed)
        self.sky = sky_map(seed)
        self.scene = o3d.t.geometry.RaycastingScene()
        vertices, triangles = self.mesh.xyz.astype(np.float32), self.mesh.triangles.astype(np.uint32)
        self.scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
        names = list(TEXTURES)
        self.reflectance = np.array([REFLECTANCE.get(n, (0, 0)) for n in names], np.float32)
        self.transmittance = np.array([TRANSMITTANCE.get(n, 0) for n in names], np.float32)
        self.albedo_of_code = (np.arange(256, dtype=np.float32) / 255) ** 2
        rng = np.random.default_rng([seed, 300])
        weathering = 1 + 0.10 * noise(rng, 1.5, 1, 64, 512) + 0.05 * noise(rng, 0.9, 8, 200, 512)
        self.weathering = weathering.astype(np.float32)
        self.table = self._triangle_table(np.zeros((len(self.mesh.xyz), 3), np.float32))
        self._bake(rng, bake_rays)

    def _triangle_table(self, irradiance: Array) -> Array:
        """Return a row for each triangle: corners (each: normal 3, uv 2, irradiance 3), tangents, tint, face normal."""
        m = self.mesh
        corners = np.concatenate([m.normals, m.uv, irradiance], 1)[m.triangles].reshape(len(m.triangles), 24)
        p, q = m.xyz[m.triangles], m.uv[m.triangles]
        e1, e2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
        d1, d2 = q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]
        det = d1[:, :1] * d2[:, 1:] - d1[:, 1:] * d2[:, :1]
        det = np.where(np.abs(det) < 1e-12, 1e-12, det)
        along_u = unit((e1 * d2[:, 1:] - e2 * d1[:, 1:]) / det)
        along_v = unit((e2 * d1[:, :1] - e1 * d2[:, :1]) / det)
        flat = unit(np.cross(e1, e2))
        return np.concatenate([corners, along_u, along_v, m.tint, flat], 1).astype(np.float32)

    def cast(self, origins: Array, directions: Array) -> Hits:
        """Return the first hits of the rays origins + s·directions, both [R,3]."""
        rays = np.concatenate([origins, directions], 1).astype(np.float32)
        result = self.scene.cast_rays(self.core.Tensor(rays))
        return Hits(result["t_hit"].numpy(), result["primitive_ids"].numpy(), result["primitive_uvs"].numpy())

    def occluded(self, origins: Array, directions: Array, far: float = np.inf) -> Array:
        """Return whether each ray hits something between its origin and origin + far·direction, bool [R]."""
        rays = np.concatenate([origins, directions], 1).astype(np.float32)
        return self.scene.test_occlusions(self.core.Tensor(rays), tnear=0.0, tfar=float(far)).numpy()

    def sky_radiance(self, directions: Array) -> Array:
        """Return the sky's radiance along unit directions [R,3], bilinear in the sky map."""
        rows, columns = SKY_SIZE
        y = (np.arcsin(np.clip(directions[:, 2], -1, 1)) / np.pi + 0.5) * rows - 0.5
        x = (np.arctan2(directions[:, 1], directions[:, 0]) / (2 * np.pi)) % 1 * columns - 0.5
        y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
        fy, fx = (y - y0)[:, None].astype(np.float32), (x - x0)[:, None].astype(np.float32)
        y1, y0 = np.clip(y0 + 1, 0, rows - 1), np.clip(y0, 0, rows - 1)
        x1, x0 = (x0 + 1) % columns, x0 % columns
        s = self.sky
        return (s[y0, x0] * (1 - fx) + s[y0, x1] * fx) * (1 - fy) + (
            s[y1, x0] * (1 - fx) + s[y1, x1] * fx
        ) * fy

    def _texture(self, material: Array, uv: Array, footprint: Array) -> tuple[Array, Array]:
        """Return albedo [R,3] and slopes [R,2] of the nearest texel, in the mip level for a footprint [R] in metres."""
        texels_per_metre = (TEXTURE_SIZE / self.atlas.tile)[material].astype(np.float32)
        level = np.log2(np.maximum(footprint * texels_per_metre, 1.0)).astype(np.int32)
        level = np.minimum(level, self.atlas.levels - 1)
        size = TEXTURE_SIZE >> level
        position = (uv * (texels_per_metre / TEXTURE_SIZE)[:, None]) % 1.0
        column = np.minimum((position[:, 0] * size).astype(np.int32), size - 1)
        row = np.minimum((position[:, 1] * size).astype(np.int32), size - 1)
        texel = self.atlas.texels[self.atlas.start[material, level] + row * size + column]
        slopes = (texel[:, 3:].astype(np.float32) / 127.5 - 1) * MAX_SLOPE
        return self.albedo_of_code[texel[:, :3]], slopes

    def radiance(
        self, origins: Array, directions: Array, rng: np.random.Generator, pixel: float, depth: int = 1
    ) -> tuple[Array, Hits]:
        """Return the linear radiance [R,3] float32 along unit rays, and what they hit.

        Args: pixel: the angle of a pixel, in radians, which selects the texture's level. depth: the number of mirror
        reflections to follow.
        """
        hits = self.cast(origins, directions)
        result = np.empty((len(origins), 3), np.float32)
        found = np.isfinite(hits.distance)
        result[~found] = self.sky_radiance(directions[~found])
        if found.any():
            near = Hits(hits.distance[found], hits.triangle[found], hits.weights[found])
            result[found] = self._shade(origins[found], directions[found], near, rng, pixel, depth)
        return result, hits

    def _shade(self, origins: Array, directions: Array, hits: Hits, rng, pixel: float, depth: int) -> Array:
        """Return the radiance [R,3] that leaves the hit surfaces towards the rays' origins."""
        data = self.table[hits.triangle]
        material = self.mesh.material[hits.triangle]
        w = hits.weights
        weight = np.stack([1 - w[:, 0] - w[:, 1], w[:, 0], w[:, 1]], 1)[:, :, None]
        corner = (data[:, CORNERS].reshape(-1, 3, 8) * weight).sum(1)
        uv, flat = corner[:, 3:5], data[:, FACE_NORMAL]
        albedo, slope = self._texture(material, uv, hits.distance * pixel)
        cell = (uv * 17.0).astype(np.int32) % 512
        albedo = np.minimum(albedo * data[:, TINT] * self.weathering[cell[:, 1], cell[:, 0], None], 0.92)
        normal = unit(corner[:, :3]) - slope[:, :1] * data[:, TANGENT_U] - slope[:, 1:] * data[:, TANGENT_V]
        side = np.where((flat * directions).sum(1) > 0, -1.0, 1.0).astype(np.float32)[:, None]
        normal, flat = unit(normal) * side, flat * side
        point = origins + directions * hits.distance[:, None] + flat * (2e-4 + 2e-5 * hits.distance[:, None])
        surface = Surface(point, normal, flat, material)
        irradiance = corner[:, 5:8] + SUN_IRRADIANCE * self._sun(surface, rng)[:, None]
        colour = albedo * irradiance / np.float32(np.pi)
        self._reflect(colour, surface, directions, rng, pixel, depth)
        clear = np.exp(-hits.distance / HAZE_DISTANCE)[:, None]
        return colour * clear + HAZE_RADIANCE * (1 - clear)

    def _sun(self, surface: Surface, rng: np.random.Generator) -> Array:
        """Return the share [R] of the sun's irradiance that arrives: cosine × visibility, and light through leaves."""
        disc = SUN_DIRECTION + SUN_RADIUS * rng.normal(size=surface.xyz.shape).astype(np.float32) * 0.6
        towards = unit(disc.astype(np.float32))
        cosine = (surface.normals * towards).sum(1)
        facing = (surface.face_normals * towards).sum(1)
        through = self.transmittance[surface.material]
        front = np.where((cosine > 0) & (facing > 0), cosine, 0)
        factor = np.where(facing < 0, through * np.abs(facing), front)
        lit = factor > 0
        start = surface.xyz[lit] - np.where(facing[lit] < 0, 1, 0)[:, None] * surface.face_normals[lit] * 1e-3
        factor[lit] *= ~self.occluded(start, towards[lit])
        return factor.astype(np.float32)

    def _reflect(
        self, colour: Array, surface: Surface, directions: Array, rng, pixel: float, depth: int
    ) -> None:
        """Add mirror reflections to `colour` [R,3] in place, with Schlick's reflectance."""
        base, gain = self.reflectance[surface.material].T
        shiny = np.flatnonzero(gain > 0)
        if depth == 0 or len(shiny) == 0:
            return
        d, n = directions[shiny], surface.normals[shiny]
        cosine = -(d * n).sum(1, keepdims=True)
        ray = unit(d + 2 * np.maximum(cosine, 0) * n)
        share = (base[shiny] + gain[shiny] * (1 - np.clip(cosine[:, 0], 0, 1)) ** 5)[:, None]
        mirrored, _ = self.radiance(surface.xyz[shiny], ray, rng, pixel * 4, depth - 1)
        colour[shiny] = colour[shiny] * (1 - share) + mirrored * share

    def _bake(self, rng: np.random.Generator, count: int) -> None:
        """Store the irradiance of the sky and of two bounces at every vertex, from `count` cosine-distributed rays."""
        m = self.mesh
        centre = m.xyz[m.triangles].mean(1)
        flat = self.table[:, FACE_NORMAL]
        albedo = (self.atlas.mean[m.material] * m.tint).clip(0, 0.9).astype(np.float32)
        up = np.where((flat @ SUN_DIRECTION > 0)[:, None], flat, -flat)
        sun = self._sun(Surface(centre + up * 1e-3, up, up, m.material), rng)[:, None] * SUN_IRRADIANCE
        sunny = np.where(
            (flat @ SUN_DIRECTION > 0)[:, None], sun, self.transmittance[m.material][:, None] * sun
        )
        total = np.zeros((len(m.xyz), 3), np.float32)
        bounce = np.zeros((len(m.triangles), 3), np.float32)
        for rays in (max(8, count // 4), count):
            total[:] = 0
            for start in range(0, len(m.xyz), 20000):
                part = slice(start, start + 20000)
                total[part] = self._gather(
                    m.xyz[part], m.normals[part], rays, albedo * (sunny + bounce) / np.pi, rng
                )
            bounce = total[m.triangles].mean(1)
        self.table = self._triangle_table(total)

    def _gather(
        self, xyz: Array, normals: Array, rays: int, emitted: Array, rng: np.random.Generator
    ) -> Array:
        """Return the irradiance [V,3] of the vertices, from `rays` rays each; triangles emit `emitted` [T,3]."""
        golden = np.arange(rays) * 2.399963 + rng.uniform(0, 2 * np.pi, (len(xyz), 1))
        u = ((np.arange(rays) + rng.uniform(size=(len(xyz), 1))) / rays)[..., None]
        local = np.concatenate(
            [np.sqrt(u) * np.cos(golden)[..., None], np.sqrt(u) * np.sin(golden)[..., None], np.sqrt(1 - u)],
            -1,
        )
        helper = np.where(np.abs(normals[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
        side = unit(np.cross(helper, normals))
        other = np.cross(normals, side)
        frame = np.stack([side, other, normals], 1)
        directions = (local @ frame).astype(np.float32).reshape(-1, 3)
        origins = np.repeat((xyz + normals * 4e-3).astype(np.float32), rays, axis=0)
        hits = self.cast(origins, directions)
        light = np.empty_like(directions)
        found = np.isfinite(hits.distance)
        light[~found] = self.sky_radiance(directions[~found])
        light[found] = emitted[hits.triangle[found]]
        return light.reshape(len(xyz), rays, 3).mean(1) * np.float32(np.pi)
