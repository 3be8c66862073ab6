// Entry points of the environment: a latitude-longitude map, looked up along the rays of empty pixels; and the adjoint
// to the map.
//
// Per level l: image (C channels) and weight in, composite out: the image, with the map's features where the weight is
// 0. coordinates [B, 2, H_l, W_l] keeps column and row on the map, which is texels [map_rows << mip_level, map_columns
// << mip_level, C] averaged over squares of 2^mip_level; too few pixels need a square for its average to be stored.
// Levels and views are launched one by one. One index is one pixel.
#include "arguments.h"
#include "functions.h"
#include "pyramid.h"
#include "rays.h"

#define PI 3.14159265358979323846

// The same where the last column is the first one's neighbour; `position` from -1 to count, or NaN.
DEVICE Interpolation interpolate_wrapped(real position, int count) {
    const real low = floor(position);
    const int at = low >= -1 ? (int)low : 0;
    return {at < 0        ? at + count
            : at >= count ? at - count
                          : at,
            at + 1 >= count ? at + 1 - count : at + 1, position - low};
}

// Column and row of a direction on the map, in texels; whole numbers are edges.
struct Texel {
    real column, row;
};
DEVICE Texel find_texel(Vec3 d, int columns, int rows) {
    return {(atan2_of(d.x, d.z) * (real)(0.5 / PI) + (real)0.5) * columns,
            (atan2_of(d.y, sqrt(d.x * d.x + d.z * d.z)) * (real)(1 / PI) + (real)0.5) * rows};
}

// A texel of the averaged map: the first of its square of texels in the full map, whose rows are `stride` values apart.
struct TexelSquare {
    int64 first, stride;
    int side, channels;
};
DEVICE TexelSquare square_of(const EnvironmentArguments& args, int column, int row) {
    const int64 stride = (args.map_columns << args.mip_level) * args.channels;
    const int side = 1 << args.mip_level;
    return {row * side * stride + column * side * args.channels, stride, side, (int)args.channels};
}
DEVICE real average(const real* map, const TexelSquare& s, int c) {
    if (s.side == 1) return map[s.first + c];
    real total = 0;
    for (int j = 0; j < s.side; ++j)
        for (int i = 0; i < s.side; ++i) total += map[s.first + j * s.stride + i * s.channels + c];
    return total / (s.side * s.side);
}
DEVICE void add_to_square(real* map, const TexelSquare& s, int c, real value) {
    if (s.side == 1) return add_single_threaded(map + s.first + c, value);
    const real part = value / (s.side * s.side);
    for (int j = 0; j < s.side; ++j)
        for (int i = 0; i < s.side; ++i) add_single_threaded(map + s.first + j * s.stride + i * s.channels + c, part);
}

KERNEL(environment_forward, EnvironmentArguments) {
    const int level = (int)args.level, columns = level_extent(args.width, level),
              rows = level_extent(args.height, level);
    const int map_rows = (int)args.map_rows, map_columns = (int)args.map_columns;
    const int64 plane = (int64)columns * rows, channels = args.channels, view = args.view;
    const RayLookup rays = load_rays(args.rays, view, level);
    real *column = args.coordinates[level] + 2 * view * plane, *row = column + plane;
    // For every pixel, because that is faster than to branch.
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const Texel texel = find_texel(find_direction(rays, x, (int)y), map_columns, map_rows);
        column[y * columns + x] = texel.column, row[y * columns + x] = texel.row;
    }
    for (int64 c = view * channels; c < (view + 1) * channels; ++c) {
        const real* image = args.image[level] + c * plane;
        real* composite = args.composite[level] + c * plane;
        FOR_EACH_PIXEL (x, y, columns, rows) {
            composite[y * columns + x] = image[y * columns + x];
        }
    }
    FOR_EACH_PIXEL_IN_TURN (x, y, columns, rows) {
        const int64 at = y * columns + x;
        if (args.weight[level][view * plane + at] > 0) continue;
        const Interpolation a = interpolate_wrapped(column[at] - (real)0.5, map_columns),
                            b = interpolate(row[at] - (real)0.5, map_rows);
        const TexelSquare left = square_of(args, a.first, b.first), right = square_of(args, a.second, b.first);
        const TexelSquare low_left = square_of(args, a.first, b.second),
                          low_right = square_of(args, a.second, b.second);
        real* composite = args.composite[level] + view * channels * plane + at;
        for (int c = 0; c < channels; ++c) {
            const real start = average(args.texels, left, c), low_start = average(args.texels, low_left, c);
            const real top = start + (average(args.texels, right, c) - start) * a.weight;
            const real bottom = low_start + (average(args.texels, low_right, c) - low_start) * a.weight;
            composite[c * plane] = top + (bottom - top) * b.weight;
        }
    }
}

// In: grad_composite. Out: grad_image; adds to grad_texels, so on a CPU it is launched on one thread.
KERNEL(environment_backward, EnvironmentArguments) {
    const int level = (int)args.level, columns = level_extent(args.width, level),
              rows = level_extent(args.height, level);
    const int map_rows = (int)args.map_rows, map_columns = (int)args.map_columns;
    const int64 plane = (int64)columns * rows, channels = args.channels, view = args.view;
    const real *column = args.coordinates[level] + 2 * view * plane, *row = column + plane;
    const real* weight = args.weight[level] + view * plane;
    for (int64 c = view * channels; c < (view + 1) * channels; ++c) {
        const real* grad = args.grad_composite[level] + c * plane;
        real* grad_image = args.grad_image[level] + c * plane;
        FOR_EACH_PIXEL (x, y, columns, rows) {
            const int64 i = y * columns + x;
            grad_image[i] = weight[i] > 0 ? grad[i] : 0;
        }
    }
    FOR_EACH_PIXEL_IN_TURN (x, y, columns, rows) {
        const int64 at = y * columns + x;
        if (weight[at] > 0) continue;
        const Interpolation a = interpolate_wrapped(column[at] - (real)0.5, map_columns),
                            b = interpolate(row[at] - (real)0.5, map_rows);
        const TexelSquare left = square_of(args, a.first, b.first), right = square_of(args, a.second, b.first);
        const TexelSquare low_left = square_of(args, a.first, b.second),
                          low_right = square_of(args, a.second, b.second);
        const real* grads = args.grad_composite[level] + view * channels * plane + at;
        for (int c = 0; c < channels; ++c) {
            const real lower = grads[c * plane] * b.weight, upper = grads[c * plane] - lower;
            add_to_square(args.grad_texels, left, c, upper - upper * a.weight),
                add_to_square(args.grad_texels, right, c, upper * a.weight);
            add_to_square(args.grad_texels, low_left, c, lower - lower * a.weight),
                add_to_square(args.grad_texels, low_right, c, lower * a.weight);
        }
    }
}
