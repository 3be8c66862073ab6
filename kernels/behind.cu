// Entry points of what lies behind the points: a latitude-longitude map, looked up along the rays of empty pixels, and
// the adjoint to the map.
//
// Per level l: image (C channels) and weight in, shown out: the image, with the map's features where the weight is 0.
// coordinates [B, 2, H_l, W_l] keeps column and row on the map, of those pixels; of others 0. texels [C, map_rows, map_columns] is
// the map at the level's own size. rays [B, 3, ray_rows, ray_columns]: directions in camera space at points spread evenly
// from corner to corner of the whole photo. Levels are launched one by one. One index is one pixel, view below view.
#include "arguments.h"
#include "linalg.h"
#include "pyramid.h"

#define PI 3.14159265358979323846

// What a bilinear look-up takes along one axis: the two nearest texels, and how much of the second.
struct Between {
    int first, second;
    real part;
};
DEVICE Between between(real place, int count) {
    const real low = floor(place);
    Between b = {(int)low, (int)low + 1, place - low};
    return b;
}
DEVICE int within(int i, int count) { return i < 0 ? 0 : i >= count ? count - 1 : i; }
DEVICE Between between_rows(real row, int count) {
    Between b = between(row - (real)0.5, count);
    b.first = within(b.first, count), b.second = within(b.second, count);
    return b;
}
// Columns wrap: the map's last one lies beside its first.
DEVICE Between between_columns(real column, int count) {
    Between b = between(column - (real)0.5, count);
    b.first = b.first < 0 ? count - 1 : b.first % count, b.second = b.second % count;
    return b;
}

// The world direction, of any length, of a place on the whole photo, from 0 to 1 either way.
DEVICE Vec3 find_direction(const Arguments& args, int64 view, real u, real v) {
    const int columns = (int)args.ray_columns, rows = (int)args.ray_rows;
    Between x = between(u * (columns - 1), columns), y = between(v * (rows - 1), rows);
    x.second = within(x.second, columns), y.second = within(y.second, rows);
    real local[3];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        const real* plane = args.rays + (3 * view + axis) * columns * rows;
        const real *above = plane + (int64)y.first * columns, *below = plane + (int64)y.second * columns;
        const real top = above[x.first] + (above[x.second] - above[x.first]) * x.part;
        local[axis] = top + (below[x.first] + (below[x.second] - below[x.first]) * x.part - top) * y.part;
    }
    Pose pose;
    for (int i = 0; i < 12; ++i) pose.m[i] = args.world_to_camera[16 * view + i];
    return rotate_transposed(pose, {local[0], local[1], local[2]});
}

DEVICE real unit(real value) { return value < 0 ? 0 : value > 1 ? 1 : value; }

KERNEL(behind_forward) {
    const int level = (int)args.level, columns = level_extent(args.width, level), rows = level_extent(args.height, level);
    const int map_rows = (int)args.map_rows, map_columns = (int)args.map_columns;
    const int64 plane = (int64)columns * rows, texels = (int64)map_rows * map_columns;
    const real scale = (real)(1 << level);
    FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
        const int64 view = line / rows, y = line - view * rows, at = y * columns + x;
        const int64 first = view * args.channels * plane + at;
        real *column_out = args.coordinates[level] + 2 * view * plane + at, *row_out = column_out + plane;
        if (args.weight[level][view * plane + at] > 0) {
            *column_out = 0, *row_out = 0;
            for (int64 c = 0; c < args.channels; ++c) args.shown[level][first + c * plane] = args.image[level][first + c * plane];
            continue;
        }
        const real *crop = args.crop + 3 * view, *size = args.photo_size + 2 * view;
        const real u = (((real)x + (real)0.5) * scale + crop[1]) / crop[0] / size[0];
        const real v = (((real)y + (real)0.5) * scale + crop[2]) / crop[0] / size[1];
        const Vec3 d = find_direction(args, view, unit(u), unit(v));
        const real column = (atan2(d.x, d.z) / (real)(2 * PI) + (real)0.5) * map_columns;
        const real row = (atan2(d.y, sqrt(d.x * d.x + d.z * d.z)) / (real)PI + (real)0.5) * map_rows;
        *column_out = column, *row_out = row;
        const Between a = between_columns(column, map_columns), b = between_rows(row, map_rows);
        for (int64 c = 0; c < args.channels; ++c) {
            const real *above = args.texels + c * texels + b.first * map_columns, *below = args.texels + c * texels + b.second * map_columns;
            const real top = above[a.first] + (above[a.second] - above[a.first]) * a.part;
            const real bottom = below[a.first] + (below[a.second] - below[a.first]) * a.part;
            args.shown[level][first + c * plane] = top + (bottom - top) * b.part;
        }
    }
}

// Adds to grad_texels. grad_image in; grad_shown, the gradient of the image before it was filled, out.
KERNEL(behind_backward) {
    const int level = (int)args.level, columns = level_extent(args.width, level), rows = level_extent(args.height, level);
    const int map_rows = (int)args.map_rows, map_columns = (int)args.map_columns;
    const int64 plane = (int64)columns * rows, texels = (int64)map_rows * map_columns;
    FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
        const int64 view = line / rows, y = line - view * rows, at = y * columns + x;
        const int64 first = view * args.channels * plane + at;
        const bool empty = !(args.weight[level][view * plane + at] > 0);
        for (int64 c = 0; c < args.channels; ++c)
            args.grad_shown[level][first + c * plane] = empty ? 0 : args.grad_image[level][first + c * plane];
        if (!empty || args.grad_texels == nullptr) continue;
        const real column = args.coordinates[level][2 * view * plane + at];
        const real row = args.coordinates[level][(2 * view + 1) * plane + at];
        const Between a = between_columns(column, map_columns), b = between_rows(row, map_rows);
        for (int64 c = 0; c < args.channels; ++c) {
            const real grad = args.grad_image[level][first + c * plane];
            real *above = args.grad_texels + c * texels + b.first * map_columns, *below = args.grad_texels + c * texels + b.second * map_columns;
            add_alone(above + a.first, grad * (1 - a.part) * (1 - b.part)), add_alone(above + a.second, grad * a.part * (1 - b.part));
            add_alone(below + a.first, grad * (1 - a.part) * b.part), add_alone(below + a.second, grad * a.part * b.part);
        }
    }
}
