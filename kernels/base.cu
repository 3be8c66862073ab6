// Entry points of the base picture: the points in their own colours, holes filled from coarser levels; and its adjoint.
//
// Per level l, all [B, ., H_l, W_l]: image (C channels, the first three logarithms of colour), weight, depth, background
// (3, linear light, or null: what the image shows) in; colours (3), valid, behind, surface out. Levels are launched one
// by one, forward from the coarsest, backward from the finest. One index is one pixel of a level, view below view.
#include "arguments.h"
#include "pyramid.h"

#define FAR ((real)1e30)  // farther than any depth, and finite, so that it can be told from one

DEVICE real nearest(real a, real b) { return a < b ? a : b; }
DEVICE real farthest(real a, real b) { return a > b ? a : b; }

// One level of one view.
struct Layer {
    const real* depth;
    int columns, rows;
};

DEVICE real depth_at(const Layer& layer, int x, int y) {
    const bool inside = x >= 0 && y >= 0 && x < layer.columns && y < layer.rows;
    return inside ? nearest(layer.depth[(int64)y * layer.columns + x], FAR) : FAR;
}

// The farther of the nearest depths within two pixels on either side along a line.
DEVICE real along_line(const Layer& layer, int x, int y, int dx, int dy) {
    const real ahead = nearest(depth_at(layer, x + dx, y + dy), depth_at(layer, x + 2 * dx, y + 2 * dy));
    const real back = nearest(depth_at(layer, x - dx, y - dy), depth_at(layer, x - 2 * dx, y - 2 * dy));
    return farthest(ahead, back);
}

// Depth of a surface that lies all around a pixel: three of four lines must agree, so the third least of their depths.
// Along an outline only one line has the near surface on both sides, so outlines do not grow.
DEVICE real surface_around(const Layer& layer, int x, int y) {
    const real a = along_line(layer, x, y, 1, 0), b = along_line(layer, x, y, 0, 1);
    const real c = along_line(layer, x, y, 1, 1), d = along_line(layer, x, y, 1, -1);
    const real low = farthest(nearest(a, b), nearest(c, d)), high = nearest(farthest(a, b), farthest(c, d));
    return farthest(low, high);
}

// Bilinear upsampling by two: pixel `fine` takes 3/4 of the coarse pixel that it lies in and 1/4 of the next one.
DEVICE int beside(int fine, int count) {
    const int other = fine / 2 + (fine & 1 ? 1 : -1);
    return other < 0 ? 0 : other >= count ? count - 1 : other;
}
DEVICE real share(int fine, int coarse, int count) {
    return (fine / 2 == coarse ? (real)0.75 : 0) + (beside(fine, count) == coarse ? (real)0.25 : 0);
}

KERNEL(base_forward) {
    const int level = (int)args.level, columns = level_extent(args.width, level), rows = level_extent(args.height, level);
    const int64 plane = (int64)columns * rows;
    const bool fills = level + 1 < args.fill_levels, occluded = level < args.occlusion_levels;
    const int wide = level_extent(args.width, level + 1), high = level_extent(args.height, level + 1);
    FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
        const int64 view = line / rows, y = line - view * rows, i = line * columns + x;
        const Layer layer = {args.depth[level] + view * plane, columns, rows};
        real surface = FAR;
        if (occluded) {
            surface = surface_around(layer, (int)x, (int)y);
            if (level + 1 < args.levels) surface = nearest(surface, args.surface[level + 1][(view * high + y / 2) * wide + x / 2]);
        }
        args.surface[level][i] = surface;
        const bool drawn = args.weight[level][i] > 0;
        real gap = 0;
        if (drawn && surface < FAR) {
            gap = 1 - surface / args.depth[level][i];
            gap = gap < 0 ? 0 : gap > 1 ? 1 : gap;
        }
        const bool valid = drawn && gap <= (real)args.occlusion_tolerance;
        args.valid[level][i] = valid, args.behind[level][i] = gap;
        const int near_x = (int)x / 2, near_y = (int)y / 2, next_x = beside((int)x, wide), next_y = beside((int)y, high);
        for (int64 c = 0; c < 3; ++c) {
            real* out = args.colours[level] + (3 * view + c) * plane + y * columns + x;
            if (!valid && fills) {
                const real* from = args.colours[level + 1] + (3 * view + c) * wide * high;
                const real* first = from + (int64)near_y * wide;
                const real* second = from + (int64)next_y * wide;
                *out = (real)0.75 * ((real)0.75 * first[near_x] + (real)0.25 * first[next_x]) +
                       (real)0.25 * ((real)0.75 * second[near_x] + (real)0.25 * second[next_x]);
            } else if (!valid && args.background[level] != nullptr) {
                *out = args.background[level][(3 * view + c) * plane + y * columns + x];
            } else {
                *out = exp(args.image[level][(view * args.channels + c) * plane + y * columns + x]);
            }
        }
    }
}

// What flows from the finer level's holes into a pixel: the adjoint of the upsampling.
DEVICE real gather_passed(const real* passed, int columns, int rows, int x, int y, int wide, int high) {
    real total = 0;
    for (int fy = 2 * y - 1; fy <= 2 * y + 2; ++fy) {
        if (fy < 0 || fy >= rows) continue;
        for (int fx = 2 * x - 1; fx <= 2 * x + 2; ++fx)
            if (fx >= 0 && fx < columns)
                total += share(fy, y, high) * share(fx, x, wide) * passed[(int64)fy * columns + fx];
    }
    return total;
}

// grad_colours in; grad_shown (C channels), grad_behind (3, where there is a background), and passed (3) for the next
// coarser level out.
KERNEL(base_backward) {
    const int level = (int)args.level, columns = level_extent(args.width, level), rows = level_extent(args.height, level);
    const int fine_columns = level_extent(args.width, level - 1), fine_rows = level_extent(args.height, level - 1);
    const int64 plane = (int64)columns * rows, fine_plane = (int64)fine_columns * fine_rows;
    const bool fills = level + 1 < args.fill_levels, filled = level > 0 && level < args.fill_levels;
    FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
        const int64 view = line / rows, y = line - view * rows, at = y * columns + x;
        const bool valid = args.valid[level][line * columns + x] > 0;
        for (int64 c = 0; c < args.channels; ++c) {
            real* shown = args.grad_shown[level] + (view * args.channels + c) * plane + at;
            *shown = 0;
            if (c >= 3) continue;
            const int64 i = (3 * view + c) * plane + at;
            real total = args.grad_colours[level][i];
            if (filled) {
                const real* passed = args.passed[level - 1] + (3 * view + c) * fine_plane;
                total += gather_passed(passed, fine_columns, fine_rows, (int)x, (int)y, columns, rows);
            }
            const bool hole = !valid && fills, looks = !valid && !fills && args.grad_behind[level] != nullptr;
            if (!hole && !looks) *shown = total * args.colours[level][i];
            if (args.grad_behind[level] != nullptr) args.grad_behind[level][i] = looks ? total : 0;
            if (fills) args.passed[level][i] = hole ? total : 0;
        }
    }
}
