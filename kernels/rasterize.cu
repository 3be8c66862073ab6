// Entry points of rasterize: depth, blend, normalise, and the two backward passes.
//
// Depth must be filled with +inf, weight and image with 0. One index is one (view, point), or one pixel of a level.
#include "arguments.h"
#include "linalg.h"
#include "pyramid.h"

struct Cell {
    int64 pixel;  // within [B, H_l, W_l]
    int64 plane;  // H_l * W_l
    int x, y, columns, rows;
};

DEVICE Cell find_cell(const Arguments& args, int64 view, int x, int y, int level) {
    Cell cell;
    cell.columns = level_extent(args.width, level), cell.rows = level_extent(args.height, level);
    cell.plane = (int64)cell.columns * cell.rows;
    cell.x = x >> level, cell.y = y >> level;
    cell.pixel = view * cell.plane + (int64)cell.y * cell.columns + cell.x;
    return cell;
}

// How many levels a point is drawn at: those with radius_px / 2^l >= tau.
DEVICE int count_levels(const Arguments& args, real radius_px) {
    int count = 0;
    const real threshold = (real)args.radius_threshold;
    while (count < args.levels && radius_px >= threshold) ++count, radius_px *= (real)0.5;
    return count;
}

DEVICE bool is_drawn(const Arguments& args, int64 i) {
    return args.visible[i] && !(args.ghosts != nullptr && args.ghosts[i]);
}

DEVICE real nearer_than(const Arguments& args, real depth) { return depth * (real)(1 + args.depth_tolerance); }

KERNEL(raster_depth) {
    FOR_EACH(i, args.views * args.points) {
        if (!is_drawn(args, i)) continue;
        const real z = args.z[i];
        const int x = (int)args.uv[2 * i], y = (int)args.uv[2 * i + 1], count = count_levels(args, args.radius_px[i]);
        for (int level = 0; level < count; ++level) {
            real* depth = args.depth[level] + find_cell(args, i / args.points, x, y, level).pixel;
            if (z < load(depth)) atomic_min(depth, z);
        }
    }
}

KERNEL(raster_blend) {
    FOR_EACH(i, args.views * args.points) {
        if (!is_drawn(args, i)) continue;
        const int64 view = i / args.points;
        const real* feature = args.features + (i - view * args.points) * args.channels;
        const real z = args.z[i];
        const int x = (int)args.uv[2 * i], y = (int)args.uv[2 * i + 1], count = count_levels(args, args.radius_px[i]);
        for (int level = 0; level < count; ++level) {
            const Cell cell = find_cell(args, view, x, y, level);
            if (!(z <= nearer_than(args, args.depth[level][cell.pixel]))) continue;
            atomic_add(args.weight[level] + cell.pixel, 1);
            real* image = args.image[level] + view * (args.channels - 1) * cell.plane + cell.pixel;
            for (int64 c = 0; c < args.channels; ++c) atomic_add(image + c * cell.plane, feature[c]);
        }
    }
}

// One index is one pixel of level args.level in one view.
KERNEL(raster_normalise) {
    const int level = (int)args.level;
    const int64 plane = (int64)level_extent(args.width, level) * level_extent(args.height, level);
    FOR_EACH(i, args.views * plane) {
        const real weight = args.weight[level][i];
        const int64 first = i + i / plane * (args.channels - 1) * plane;
        for (int64 c = 0; c < args.channels; ++c) {
            real* value = args.image[level] + first + c * plane;
            if (weight > 0) *value /= weight;
            else *value = args.background[level][args.background_full ? first + c * plane : c];
        }
    }
}

// One index is one point, which owns its row of grad_features.
KERNEL(raster_backward_features) {
    FOR_EACH(n, args.points) {
        for (int64 view = 0; view < args.views; ++view) {
            const int64 i = view * args.points + n;
            if (!is_drawn(args, i)) continue;
            const real z = args.z[i];
            const int x = (int)args.uv[2 * i], y = (int)args.uv[2 * i + 1], count = count_levels(args, args.radius_px[i]);
            for (int level = 0; level < count; ++level) {
                const Cell cell = find_cell(args, view, x, y, level);
                if (!(z <= nearer_than(args, args.depth[level][cell.pixel]))) continue;
                const real weight = args.weight[level][cell.pixel];
                const real* grad = args.grad_image[level] + view * (args.channels - 1) * cell.plane + cell.pixel;
                for (int64 c = 0; c < args.channels; ++c)
                    args.grad_features[n * args.channels + c] += grad[c * cell.plane] / weight;
            }
        }
    }
}

// What the loss would feel if a ghost of depth z and this feature were drawn at the pixel dx, dy away.
DEVICE real ghost_change(const Arguments& args, const Cell& cell, int64 view, int level, int64 step, real z,
                         const real* feature) {
    const int64 pixel = cell.pixel + step, first = view * (args.channels - 1) * cell.plane + pixel;
    const real depth = args.depth[level][pixel], weight = args.weight[level][pixel];
    const bool replaces = weight == 0 || z * (real)(1 + args.depth_tolerance) < depth;
    if (!replaces && z > nearer_than(args, depth)) return 0;
    real total = 0;
    for (int64 c = 0; c < args.channels; ++c)
        total += (feature[c] - args.image[level][first + c * cell.plane]) * args.grad_image[level][first + c * cell.plane];
    return replaces ? total : total / (weight + 1);
}

// Differences between the pixels beside a ghost's.
DEVICE void ghost_slope(const Arguments& args, const Cell& cell, int64 view, int level, real z, const real* feature, real* u, real* v) {
    *u = *v = 0;
    if (cell.x < 2 || cell.y < 2 || cell.x >= cell.columns - 2 || cell.y >= cell.rows - 2) return;
    *u = (ghost_change(args, cell, view, level, 1, z, feature) - ghost_change(args, cell, view, level, -1, z, feature)) / 2;
    *v = (ghost_change(args, cell, view, level, cell.columns, z, feature) -
          ghost_change(args, cell, view, level, -cell.columns, z, feature)) / 2;
}

// How the bilinear weights of the 2 x 2 pixels around (pu, pv) of the level change what the loss feels.
DEVICE void bilinear_slope(const Arguments& args, Cell cell, int64 view, int level, real z, const real* feature, real pu, real pv,
                           real* u, real* v) {
    *u = *v = 0;
    const real left = floor(pu - (real)0.5), top = floor(pv - (real)0.5);
    const int x = (int)left, y = (int)top;
    if (x < 0 || y < 0 || x + 1 >= cell.columns || y + 1 >= cell.rows) return;
    const real part_x = pu - (real)0.5 - left, part_y = pv - (real)0.5 - top;
    cell.pixel = view * cell.plane + (int64)y * cell.columns + x;
    const real first = ghost_change(args, cell, view, level, 0, z, feature), second = ghost_change(args, cell, view, level, 1, z, feature);
    const real third = ghost_change(args, cell, view, level, cell.columns, z, feature);
    const real last = ghost_change(args, cell, view, level, cell.columns + 1, z, feature);
    *u = (1 - part_y) * (second - first) + part_y * (last - third);
    *v = (1 - part_x) * (third - first) + part_x * (last - second);
}

// One index is one (view, point). Ghosts have ADOP's neighbour differences; or, bilinear, all points have a footprint.
KERNEL(raster_backward_uv) {
    FOR_EACH(i, args.views * args.points) {
        if (!args.visible[i] || !(args.bilinear || args.ghosts[i])) continue;
        const int64 view = i / args.points;
        const real* feature = args.features + (i - view * args.points) * args.channels;
        const real z = args.z[i], pu = args.uv[2 * i], pv = args.uv[2 * i + 1];
        const int count = count_levels(args, args.radius_px[i]);
        real scale = 1, u = 0, v = 0;
        for (int level = 0; level < count; ++level, scale *= (real)0.5) {
            const Cell cell = find_cell(args, view, (int)pu, (int)pv, level);
            real along, down;
            if (args.bilinear) bilinear_slope(args, cell, view, level, z, feature, pu * scale, pv * scale, &along, &down);
            else ghost_slope(args, cell, view, level, z, feature, &along, &down);
            u += scale * along, v += scale * down;
        }
        args.grad_uv[2 * i] = u, args.grad_uv[2 * i + 1] = v;
    }
}
