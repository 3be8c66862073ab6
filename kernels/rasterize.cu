// Entry points of rasterize in the order by point: depth, blending, normalising, and the two backward passes.
//
// Depth must be filled with +inf, weight and image with 0. One index is one (view, point), or one pixel of a level.
#include "arguments.h"
#include "harmonics.h"
#include "linalg.h"
#include "pyramid.h"
#include "slopes.h"

struct Cell {
    int64 pixel;  // within [B, H_l, W_l]
    int64 plane;  // H_l * W_l
};

DEVICE Cell find_cell(const PyramidArguments& pyramid, int64 view, int x, int y, int level) {
    const int64 columns = level_extent(pyramid.width, level), plane = columns * level_extent(pyramid.height, level);
    return {view * plane + (y >> level) * columns + (x >> level), plane};
}

// How many levels a point is drawn at: those with radius_px / 2^l >= radius_threshold.
DEVICE int count_detail_levels(const PyramidArguments& pyramid, real radius_px) {
    int count = 0;
    const real threshold = (real)pyramid.radius_threshold;
    while (count < pyramid.levels && radius_px >= threshold) ++count, radius_px *= (real)0.5;
    return count;
}

DEVICE bool is_drawn(const RasterizeArguments& args, int64 i) {
    const byte* ghosts = args.bands.pyramid.ghosts;
    return args.projected.visible[i] && !(ghosts != nullptr && ghosts[i]);
}

// What a point's depth is compared with: points within the tolerance of the nearest one count.
DEVICE real tolerance_of(const PyramidArguments& pyramid) { return (real)(1 + pyramid.depth_tolerance); }

KERNEL(raster_depth, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 points = args.bands.blocks.points;
    FOR_EACH (i, pyramid.views * points) {
        if (!is_drawn(args, i)) continue;
        const real z = args.projected.z[i];
        const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
        const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
        for (int level = 0; level < count; ++level) {
            real* depth = pyramid.depth[level] + find_cell(pyramid, i / points, x, y, level).pixel;
            if (z < load(depth)) atomic_min(depth, z);
        }
    }
}

KERNEL(raster_blend, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 points = args.bands.blocks.points, channels = pyramid.channels;
    FOR_EACH (i, pyramid.views * points) {
        if (!is_drawn(args, i)) continue;
        const int64 view = i / points;
        const real* feature = pyramid.features + (i - view * points) * pyramid.row;
        const Vec3 change = harmonic_change(pyramid, view, i - view * points);
        const real z = args.projected.z[i];
        const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
        const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
        for (int level = 0; level < count; ++level) {
            const Cell cell = find_cell(pyramid, view, x, y, level);
            if (!(z <= pyramid.depth[level][cell.pixel] * tolerance_of(pyramid))) continue;
            atomic_add(pyramid.weight[level] + cell.pixel, 1);
            real* image = pyramid.image[level] + view * (channels - 1) * cell.plane + cell.pixel;
            for (int64 c = 0; c < channels; ++c) atomic_add(image + c * cell.plane, feature[c] + component(change, c));
        }
    }
}

// One index is one pixel of level args.level in one view.
KERNEL(raster_normalise, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int level = (int)args.level;
    const int64 plane = (int64)level_extent(pyramid.width, level) * level_extent(pyramid.height, level);
    FOR_EACH (i, pyramid.views * plane) {
        const real weight = pyramid.weight[level][i];
        const int64 first = i + i / plane * (pyramid.channels - 1) * plane;
        for (int64 c = 0; c < pyramid.channels; ++c) {
            real* value = pyramid.image[level] + first + c * plane;
            if (weight > 0) *value /= weight;
            else *value = pyramid.background[level][pyramid.background_full ? first + c * plane : c];
        }
    }
}

// One index is one point, which owns its row of the features' gradient.
KERNEL(raster_backward_features, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const PyramidGradientArguments& gradients = args.bands.gradients;
    const int64 points = args.bands.blocks.points, channels = pyramid.channels;
    FOR_EACH (n, points) {
        real* row = gradients.features + n * pyramid.row;
        for (int64 view = 0; view < pyramid.views; ++view) {
            const int64 i = view * points + n;
            if (!is_drawn(args, i)) continue;
            Vec3 colour = {0, 0, 0};
            const real z = args.projected.z[i];
            const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
            const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
            for (int level = 0; level < count; ++level) {
                const Cell cell = find_cell(pyramid, view, x, y, level);
                if (!(z <= pyramid.depth[level][cell.pixel] * tolerance_of(pyramid))) continue;
                const real weight = pyramid.weight[level][cell.pixel];
                const real* grad = gradients.image[level] + view * (channels - 1) * cell.plane + cell.pixel;
                for (int64 c = 0; c < channels; ++c) {
                    const real g = grad[c * cell.plane] / weight;
                    row[c] += g;
                    if (c < 3) add_component(colour, c, g);
                }
            }
            add_harmonic_gradient(pyramid, view, n, colour, row);
        }
    }
}

// The drawn images beside one point of one view, see slopes.h.
struct PlanarPyramid {
    const PyramidArguments& pyramid;
    const PyramidGradientArguments& gradients;
    int64 view;
    real z;
    const real* feature;
    Vec3 harmonics;  // what they add to the feature

    METHOD int columns(int level) const { return level_extent(pyramid.width, level); }
    METHOD int rows(int level) const { return level_extent(pyramid.height, level); }
    METHOD real change(int level, int x, int y) const {
        const int64 plane = (int64)columns(level) * rows(level), channels = pyramid.channels;
        const int64 pixel = view * plane + (int64)y * columns(level) + x, first = view * (channels - 1) * plane + pixel;
        const auto gain = [&] {
            real total = 0;
            for (int64 c = 0; c < channels; ++c)
                total += (feature[c] + component(harmonics, c) - pyramid.image[level][first + c * plane]) *
                         gradients.image[level][first + c * plane];
            return total;
        };
        return change_by_drawing(z, pyramid.depth[level][pixel], pyramid.weight[level][pixel], tolerance_of(pyramid),
                                 gain);
    }
};

// One index is one (view, point). Ghosts have ADOP's neighbour differences; bilinear, every point has a footprint.
KERNEL(raster_backward_uv, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const PyramidGradientArguments& gradients = args.bands.gradients;
    const int64 points = args.bands.blocks.points;
    FOR_EACH (i, pyramid.views * points) {
        if (!args.projected.visible[i] || !(gradients.bilinear || pyramid.ghosts[i])) continue;
        const int64 view = i / points;
        const int64 point = i - view * points;
        const real* feature = pyramid.features + point * pyramid.row;
        const real u = args.projected.uv[2 * i], v = args.projected.uv[2 * i + 1];
        const Vec3 harmonics = harmonic_change(pyramid, view, point);
        const PlanarPyramid planes = {pyramid, gradients, view, args.projected.z[i], feature, harmonics};
        const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
        const Slope slope = gradients.bilinear ? sum_bilinear_slopes(planes, count, u, v)
                                               : sum_ghost_slopes(planes, count, (int)u, (int)v);
        args.grad_uv[2 * i] = slope.u, args.grad_uv[2 * i + 1] = slope.v;
    }
}
