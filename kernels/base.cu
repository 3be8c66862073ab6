// Entry points of the base picture: the points in their own colours, holes filled from coarser levels; and its adjoint.
//
// Per level l, all [B, ., H_l, W_l]: image (C channels, the first three logarithms of colour), weight, depth, background
// (3, linear light, or null: what the image shows) in; valid, behind, surface, then colours (3) out. padded is depth of the
// levels that may be occluded, with REACH more pixels on every side. Levels are launched one by one, forward from the
// coarsest, backward from the finest. One index is one pixel of a level, view below view.
#include "arguments.h"
#include "functions.h"
#include "pyramid.h"

#define FAR ((real)1e30)  // farther than any depth, and finite, so that it can be told from one
#define REACH 2           // pixels to either side in which a nearer surface is looked for

DEVICE real nearest(real a, real b) { return a < b ? a : b; }
DEVICE real farthest(real a, real b) { return a > b ? a : b; }

// The farther of the nearest depths on either side along a line; `step` leads from a pixel to the next one there.
DEVICE real along_line(const real* depth, int step) {
    return nearest(FAR, farthest(nearest(depth[step], depth[2 * step]), nearest(depth[-step], depth[-2 * step])));
}

// Depth of a surface that lies all around a pixel: three of four lines must agree, so the third least of their depths.
// Along an outline only one line has the near surface on both sides, so outlines do not grow.
DEVICE real surface_around(const real* depth, int stride) {
    const real a = along_line(depth, 1), b = along_line(depth, stride);
    const real c = along_line(depth, stride + 1), d = along_line(depth, stride - 1);
    const real low = farthest(nearest(a, b), nearest(c, d)), high = nearest(farthest(a, b), farthest(c, d));
    return farthest(low, high);
}

// Bilinear upsampling by two: pixel `fine` takes 3/4 of the coarse pixel that it lies in and 1/4 of the one beside it.
DEVICE int beside(int fine, int count) {
    const int other = fine / 2 + (fine & 1 ? 1 : -1);
    return other < 0 ? 0 : other >= count ? count - 1 : other;
}
// What a coarse pixel gives to a fine one; 0 where there is none.
DEVICE real share(int fine, int fines, int coarse, int count) {
    const real given = (fine / 2 == coarse ? (real)0.75 : 0) + (beside(fine, count) == coarse ? (real)0.25 : 0);
    return fine >= 0 && fine < fines ? given : 0;
}

struct Size {
    int columns, rows;
    int64 plane;
};
DEVICE Size size_of(const Arguments& args, int level) {
    Size size = {level_extent(args.width, level), level_extent(args.height, level), 0};
    size.plane = (int64)size.columns * size.rows;
    return size;
}

template <bool OCCLUDED, bool COARSER>
DEVICE void find_surface(const Arguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int columns = size.columns, stride = columns + 2 * REACH;
    const real tolerance = (real)args.occlusion_tolerance, *weights = args.weight[level], *depths = args.depth[level];
    real *surfaces = args.surface[level], *valid = args.valid[level], *behind = args.behind[level];
    FOR_EACH_PIXEL(x, line, columns, args.views * size.rows) {
        const int64 view = line / size.rows, y = line - view * size.rows, row = line * columns;
        real surface = FAR;
        if (OCCLUDED) {
            const real* padded = args.padded[level] + ((line + 2 * REACH * view) + REACH) * stride + REACH;
            surface = surface_around(padded + x, stride);
            if (COARSER) surface = nearest(surface, args.surface[level + 1][(view * next.rows + y / 2) * next.columns + x / 2]);
        }
        const bool drawn = weights[row + x] > 0;
        real gap = 1 - surface / (drawn ? depths[row + x] : 1);
        gap = drawn && surface < FAR ? gap : 0;
        gap = gap < 0 ? 0 : gap > 1 ? 1 : gap;
        surfaces[row + x] = surface, behind[row + x] = gap;
        valid[row + x] = drawn && gap <= tolerance ? 1 : 0;
    }
}

KERNEL(base_surface) {
    if (args.level >= args.occlusion_levels) find_surface<false, false>(args);
    else if (args.level + 1 < args.levels) find_surface<true, true>(args);
    else find_surface<true, false>(args);
}

// What a level shows where it has no valid point of its own: the coarser level, the background, or its own image.
enum Rest { COARSE, BACKGROUND, OWN };
DEVICE Rest rest_of(const Arguments& args, const void* background) {
    return args.level + 1 < args.fill_levels ? COARSE : background != nullptr ? BACKGROUND : OWN;
}

// Upsampling goes by columns first: half_way [B, 3, H_l, W_{l+1}] of level l, from the colours of level l + 1.
KERNEL(base_upsample) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int64 rows = 3 * args.views * size.rows;
    FOR_EACH_PIXEL(x, line, next.columns, rows) {
        const int64 image = line / size.rows, y = line - image * size.rows;
        const real* coarse = args.colours[level + 1] + image * next.plane;
        const real *first = coarse + y / 2 * next.columns, *second = coarse + (int64)beside((int)y, next.rows) * next.columns;
        args.half_way[level][line * next.columns + x] = (real)0.75 * first[x] + (real)0.25 * second[x];
    }
}

template <int REST>
DEVICE void show_colours(const Arguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int columns = size.columns;
    for (int c = 0; c < 3; ++c) {
        FOR_EACH_PIXEL(x, line, columns, args.views * size.rows) {
            const int64 view = line / size.rows, y = line - view * size.rows, row = (3 * view + c) * size.rows + y;
            const real* image = args.image[level] + (view * args.channels + c) * size.plane + y * columns;
            const real own = exp_of(image[x]);
            real rest = own;
            if (REST == COARSE) {
                const real* coarse = args.half_way[level] + row * next.columns;
                rest = (real)0.75 * coarse[x / 2] + (real)0.25 * coarse[beside(x, next.columns)];
            }
            if (REST == BACKGROUND) rest = args.background[level][row * columns + x];
            args.colours[level][row * columns + x] = args.valid[level][line * columns + x] > 0 ? own : rest;
        }
    }
}

KERNEL(base_colours) {
    const Rest rest = rest_of(args, args.background[args.level]);
    if (rest == COARSE) show_colours<COARSE>(args);
    else if (rest == BACKGROUND) show_colours<BACKGROUND>(args);
    else show_colours<OWN>(args);
}

// The adjoint of upsampling, by columns first: half_way [B, 3, H_l, W_{l-1}] of level l, from passed of level l - 1.
KERNEL(base_gather) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), fine = size_of(args, level - 1);
    const int64 rows = 3 * args.views * size.rows;
    FOR_EACH_PIXEL(x, line, fine.columns, rows) {
        const int64 image = line / size.rows;
        const int y = (int)(line - image * size.rows);
        const real* passed = args.passed[level - 1] + image * fine.plane + x;
        real total = 0;
        UNROLL
        for (int j = -1; j <= 2; ++j) {
            const int row = 2 * y + j < 0 || 2 * y + j >= fine.rows ? 0 : 2 * y + j;
            total += share(2 * y + j, fine.rows, y, size.rows) * passed[(int64)row * fine.columns];
        }
        args.half_way[level][line * fine.columns + x] = total;
    }
}

// grad_colours in; grad_shown (C channels), grad_behind (3, where there is a background), and passed (3) for the next
// coarser level out. FILLED: the finer level's holes have passed on what they show of this one.
template <bool FILLED, int REST>
DEVICE void hand_back(const Arguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), fine = size_of(args, level - 1);
    const int columns = size.columns, rows = size.rows;
    for (int c = 0; c < 3; ++c) {
        FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
            const int64 view = line / rows, y = line - view * rows, row = ((3 * view + c) * rows + y) * columns;
            real total = args.grad_colours[level][row + x];
            if (FILLED) {
                const real* passed = args.half_way[level] + ((3 * view + c) * rows + y) * fine.columns;
                UNROLL
                for (int i = -1; i <= 2; ++i) {
                    const int at = 2 * x + i < 0 || 2 * x + i >= fine.columns ? 0 : 2 * x + i;
                    total += share(2 * x + i, fine.columns, x, columns) * passed[at];
                }
            }
            const bool valid = args.valid[level][line * columns + x] > 0;
            const real shown = total * args.colours[level][row + x];
            args.grad_shown[level][(view * args.channels + c) * size.plane + y * columns + x] = valid || REST == OWN ? shown : 0;
            if (REST == COARSE) args.passed[level][row + x] = valid ? 0 : total;
            if (REST == BACKGROUND) args.grad_behind[level][row + x] = valid ? 0 : total;
        }
    }
    for (int64 c = 3; c < args.channels; ++c)
        FOR_EACH_PIXEL(x, line, columns, args.views * rows) {
            const int64 view = line / rows, y = line - view * rows;
            args.grad_shown[level][(view * args.channels + c) * size.plane + y * columns + x] = 0;
        }
}

KERNEL(base_backward) {
    const bool filled = args.level > 0 && args.level < args.fill_levels;
    const Rest rest = rest_of(args, args.grad_behind[args.level]);
    if (filled) {
        if (rest == COARSE) hand_back<true, COARSE>(args);
        else if (rest == BACKGROUND) hand_back<true, BACKGROUND>(args);
        else hand_back<true, OWN>(args);
    } else {
        if (rest == COARSE) hand_back<false, COARSE>(args);
        else if (rest == BACKGROUND) hand_back<false, BACKGROUND>(args);
        else hand_back<false, OWN>(args);
    }
}
