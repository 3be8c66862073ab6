// Entry points of hole filling: the points in their own colours, holes filled from coarser levels; and the adjoint.
//
// Per level l, all [B, ., H_l, W_l]. In: image (C channels, the first three logarithms of colour), weight, depth,
// background (3, linear light, or null: empty pixels keep what the image shows). Out: valid, occlusion, surface, then
// colours (3). padded_depth is the depth of the levels that may be occluded, with REACH more pixels on every side.
// Levels are launched one by one, forward from the coarsest, backward from the finest. One index is one pixel of a
// level, view after view.
#include "arguments.h"
#include "functions.h"
#include "pyramid.h"

#define FAR ((real)1e30)  // stands for no surface: beyond any depth, but finite
#define REACH 2           // pixels to either side that are searched for a nearer surface

DEVICE real nearest(real a, real b) { return a < b ? a : b; }
DEVICE real farthest(real a, real b) { return a > b ? a : b; }

// The farther of the nearest depths on either side along a line; `step` leads from a pixel to the next one there.
DEVICE real along_line(const real* depth, int step) {
    return nearest(FAR, farthest(nearest(depth[step], depth[2 * step]), nearest(depth[-step], depth[-2 * step])));
}

// Depth of a surface that surrounds a pixel: three of four lines must agree, so the third least of their depths. At an
// outline only one line has the near surface on both sides, so that outlines do not grow.
DEVICE real surface_around(const real* depth, int stride) {
    const real a = along_line(depth, 1), b = along_line(depth, stride);
    const real c = along_line(depth, stride + 1), d = along_line(depth, stride - 1);
    const real low = farthest(nearest(a, b), nearest(c, d)), high = nearest(farthest(a, b), farthest(c, d));
    return farthest(low, high);
}

// Bilinear upsampling by two: pixel `fine` takes 3/4 of the coarse pixel that it lies in and 1/4 of the one beside it.
DEVICE int second_source(int fine, int count) {
    const int other = fine / 2 + (fine & 1 ? 1 : -1);
    return other < 0 ? 0 : other >= count ? count - 1 : other;
}
// The weight of a coarse pixel in a fine one; 0 where there is no such fine pixel.
DEVICE real upsampling_weight(int fine, int fines, int coarse, int count) {
    const real weight = (fine / 2 == coarse ? (real)0.75 : 0) + (second_source(fine, count) == coarse ? (real)0.25 : 0);
    return fine >= 0 && fine < fines ? weight : 0;
}

template <bool OCCLUDED, bool COARSER>
DEVICE void find_surface(const HoleFillingArguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int columns = size.columns, stride = columns + 2 * REACH;
    const real tolerance = (real)args.tolerance;
    const real *weights = args.weight[level], *depths = args.depth[level];
    real *surfaces = args.surface[level], *valid = args.valid[level], *occlusion = args.occlusion[level];
    FOR_EACH_PIXEL (x, line, columns, args.views * size.rows) {
        const int64 view = line / size.rows, y = line - view * size.rows, row = line * columns;
        real surface = FAR;
        if (OCCLUDED) {
            const real* padded = args.padded_depth[level] + ((line + 2 * REACH * view) + REACH) * stride + REACH;
            surface = surface_around(padded + x, stride);
            if (COARSER)
                surface = nearest(surface, args.surface[level + 1][(view * next.rows + y / 2) * next.columns + x / 2]);
        }
        const bool drawn = weights[row + x] > 0;
        real gap = 1 - surface / (drawn ? depths[row + x] : 1);
        gap = drawn && surface < FAR ? gap : 0;
        gap = gap < 0 ? 0 : gap > 1 ? 1 : gap;
        surfaces[row + x] = surface, occlusion[row + x] = gap;
        valid[row + x] = drawn && gap <= tolerance ? 1 : 0;
    }
}

KERNEL(holes_surface, HoleFillingArguments) {
    if (args.level >= args.occlusion_levels) find_surface<false, false>(args);
    else if (args.level + 1 < args.levels) find_surface<true, true>(args);
    else find_surface<true, false>(args);
}

// What fills a pixel without a valid point: the coarser level, the background, or the level's own image.
enum HoleSource { COARSE, BACKGROUND, OWN };
DEVICE HoleSource hole_source(const HoleFillingArguments& args, const void* background) {
    return args.level + 1 < args.fill_levels ? COARSE : background != nullptr ? BACKGROUND : OWN;
}

// Upsampling resamples rows first: resampled_rows [B, 3, H_l, W_{l+1}] of level l, from the colours of level l + 1.
KERNEL(holes_upsample, HoleFillingArguments) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int64 rows = 3 * args.views * size.rows;
    FOR_EACH_PIXEL (x, line, next.columns, rows) {
        const int64 image = line / size.rows, y = line - image * size.rows;
        const real* coarse = args.colours[level + 1] + image * next.plane;
        const real *first = coarse + y / 2 * next.columns,
                   *second = coarse + (int64)second_source((int)y, next.rows) * next.columns;
        args.resampled_rows[level][line * next.columns + x] = (real)0.75 * first[x] + (real)0.25 * second[x];
    }
}

template <int SOURCE>
DEVICE void fill_colours(const HoleFillingArguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), next = size_of(args, level + 1);
    const int columns = size.columns;
    for (int c = 0; c < 3; ++c) {
        FOR_EACH_PIXEL (x, line, columns, args.views * size.rows) {
            const int64 view = line / size.rows, y = line - view * size.rows, row = (3 * view + c) * size.rows + y;
            const real* image = args.image[level] + (view * args.channels + c) * size.plane + y * columns;
            const real own = exp_of(image[x]);
            real fill = own;
            if (SOURCE == COARSE) {
                const real* coarse = args.resampled_rows[level] + row * next.columns;
                fill = (real)0.75 * coarse[x / 2] + (real)0.25 * coarse[second_source(x, next.columns)];
            }
            if (SOURCE == BACKGROUND) fill = args.background[level][row * columns + x];
            args.colours[level][row * columns + x] = args.valid[level][line * columns + x] > 0 ? own : fill;
        }
    }
}

KERNEL(holes_colours, HoleFillingArguments) {
    const HoleSource source = hole_source(args, args.background[args.level]);
    if (source == COARSE) fill_colours<COARSE>(args);
    else if (source == BACKGROUND) fill_colours<BACKGROUND>(args);
    else fill_colours<OWN>(args);
}

// The adjoint of upsampling, rows first: resampled_rows [B, 3, H_l, W_{l-1}] of level l, from grad_upsampled of level
// l - 1.
KERNEL(holes_upsample_backward, HoleFillingArguments) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), fine = size_of(args, level - 1);
    const int64 rows = 3 * args.views * size.rows;
    FOR_EACH_PIXEL (x, line, fine.columns, rows) {
        const int64 image = line / size.rows;
        const int y = (int)(line - image * size.rows);
        const real* grad = args.grad_upsampled[level - 1] + image * fine.plane + x;
        real total = 0;
        UNROLL
        for (int j = -1; j <= 2; ++j) {
            const int row = 2 * y + j < 0 || 2 * y + j >= fine.rows ? 0 : 2 * y + j;
            total += upsampling_weight(2 * y + j, fine.rows, y, size.rows) * grad[(int64)row * fine.columns];
        }
        args.resampled_rows[level][line * fine.columns + x] = total;
    }
}

// In: grad_colours. Out: grad_image (C channels), grad_background (3, where there is a background), and grad_upsampled
// (3), which the next coarser level takes. FILLED: holes of the finer level show this one, so their gradient is added.
template <bool FILLED, int SOURCE>
DEVICE void colours_gradient(const HoleFillingArguments& args) {
    const int level = (int)args.level;
    const Size size = size_of(args, level), fine = size_of(args, level - 1);
    const int columns = size.columns, rows = size.rows;
    for (int c = 0; c < 3; ++c) {
        FOR_EACH_PIXEL (x, line, columns, args.views * rows) {
            const int64 view = line / rows, y = line - view * rows, row = ((3 * view + c) * rows + y) * columns;
            real total = args.grad_colours[level][row + x];
            if (FILLED) {
                const real* rows_gradient = args.resampled_rows[level] + ((3 * view + c) * rows + y) * fine.columns;
                UNROLL
                for (int i = -1; i <= 2; ++i) {
                    const int at = 2 * x + i < 0 || 2 * x + i >= fine.columns ? 0 : 2 * x + i;
                    total += upsampling_weight(2 * x + i, fine.columns, x, columns) * rows_gradient[at];
                }
            }
            const bool valid = args.valid[level][line * columns + x] > 0;
            const real grad_image = total * args.colours[level][row + x];
            args.grad_image[level][(view * args.channels + c) * size.plane + y * columns + x] =
                valid || SOURCE == OWN ? grad_image : 0;
            if (SOURCE == COARSE) args.grad_upsampled[level][row + x] = valid ? 0 : total;
            if (SOURCE == BACKGROUND) args.grad_background[level][row + x] = valid ? 0 : total;
        }
    }
    for (int64 c = 3; c < args.channels; ++c)
        FOR_EACH_PIXEL (x, line, columns, args.views * rows) {
            const int64 view = line / rows, y = line - view * rows;
            args.grad_image[level][(view * args.channels + c) * size.plane + y * columns + x] = 0;
        }
}

KERNEL(holes_colours_backward, HoleFillingArguments) {
    const bool filled = args.level > 0 && args.level < args.fill_levels;
    const HoleSource source = hole_source(args, args.grad_background[args.level]);
    if (filled) {
        if (source == COARSE) colours_gradient<true, COARSE>(args);
        else if (source == BACKGROUND) colours_gradient<true, BACKGROUND>(args);
        else colours_gradient<true, OWN>(args);
    } else {
        if (source == COARSE) colours_gradient<false, COARSE>(args);
        else if (source == BACKGROUND) colours_gradient<false, BACKGROUND>(args);
        else colours_gradient<false, OWN>(args);
    }
}
