// The rays of a view's pixels, interpolated on a grid over the full photo of its lens.
#pragma once
#include "arguments.h"
#include "linalg.h"

// Linear interpolation along one axis: two neighbours, and the weight of the second.
struct Interpolation {
    int first, second;
    real weight;
};
DEVICE int clamp_index(int i, int count) {
    const int low = i > 0 ? i : 0;
    return low < count - 1 ? low : count - 1;
}
// Of rows or columns 0 to count - 1; positions beyond take the outermost.
DEVICE Interpolation interpolate(real position, int count) {
    const real low = floor(position);
    const int at = low >= -1 ? (int)low : -1;
    return {clamp_index(at, count), clamp_index(at + 1, count), position - low};
}
// One coordinate of a ray, interpolated between four points of the grid.
DEVICE real interpolate_ray(const real* plane, const Interpolation& x, const Interpolation& y, int columns) {
    const real *above = plane + y.first * columns, *below = plane + y.second * columns;
    const real top = above[x.first] + (above[x.second] - above[x.first]) * x.weight;
    const real bottom = below[x.first] + (below[x.second] - below[x.first]) * x.weight;
    return top + (bottom - top) * y.weight;
}

// From a pixel of a level to a position on the ray grid, and from the camera to the world.
struct RayLookup {
    const real* rays;
    int columns, rows;
    real scale_x, shift_x, scale_y, shift_y;
    Pose pose;
};
DEVICE RayLookup load_rays(const RayArguments& args, int64 view, int level) {
    const real *crop = args.crop + 3 * view, *size = args.photo_size + 2 * view, *m = args.world_to_camera + 16 * view;
    RayLookup s;
    s.columns = (int)args.columns, s.rows = (int)args.rows;
    s.rays = args.local + 3 * view * s.columns * s.rows;
    s.scale_x = (s.columns - 1) / (crop[0] * size[0]), s.scale_y = (s.rows - 1) / (crop[0] * size[1]);
    const real pixel = (real)(1 << level);
    s.shift_x = (pixel / 2 + crop[1]) * s.scale_x, s.shift_y = (pixel / 2 + crop[2]) * s.scale_y;
    s.scale_x *= pixel, s.scale_y *= pixel;
    UNROLL
    for (int i = 0; i < 12; ++i) s.pose.m[i] = m[i];
    return s;
}

// The direction of a pixel in camera space; its length is arbitrary.
DEVICE Vec3 find_local_direction(const RayLookup& s, int pixel_x, int pixel_y) {
    const Interpolation x = interpolate(pixel_x * s.scale_x + s.shift_x, s.columns);
    const Interpolation y = interpolate(pixel_y * s.scale_y + s.shift_y, s.rows);
    const int plane = s.columns * s.rows;
    const real a = interpolate_ray(s.rays, x, y, s.columns), b = interpolate_ray(s.rays + plane, x, y, s.columns);
    return {a, b, interpolate_ray(s.rays + 2 * plane, x, y, s.columns)};
}
// The same in the world.
DEVICE Vec3 find_direction(const RayLookup& s, int pixel_x, int pixel_y) {
    return rotate_transposed(s.pose, find_local_direction(s, pixel_x, pixel_y));
}
