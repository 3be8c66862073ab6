// Entry points of rasterize in the order by point: depth, blending, normalising, and the two backward passes.
//
// A pixel's numbers lie side by side in a row of R, so that a point reads or adds them at once: C values, one more, and
// zeros up to a multiple of four. The rows of level 0 come first, within a level those of the first view. One index is
// one (view, point), or one row.
#include "arguments.h"
#include "harmonics.h"
#include "linalg.h"
#include "pyramid.h"
#include "slopes.h"

DEVICE int64 row_size(const PyramidArguments& pyramid) { return (pyramid.channels / 4 + 1) * 4; }

struct Cell {
    int64 pixel;  // within [B, H_l, W_l]
    int64 plane;  // H_l * W_l
};

// Of the numbers of all views one after the other, `each` a view: the view of the i-th. Most often there is only one.
DEVICE int64 view_of(const PyramidArguments& pyramid, int64 i, int64 each) { return pyramid.views == 1 ? 0 : i / each; }

DEVICE int64 plane_of(const PyramidArguments& pyramid, int level) {
    return (int64)level_extent(pyramid.width, level) * level_extent(pyramid.height, level);
}
DEVICE Cell find_cell(const PyramidArguments& pyramid, int64 view, int x, int y, int level) {
    const int64 plane = plane_of(pyramid, level);
    return {view * plane + (int64)(y >> level) * level_extent(pyramid.width, level) + (x >> level), plane};
}

struct LevelCell {
    int level;
    Cell cell;
};
DEVICE LevelCell find_row(const PyramidArguments& pyramid, int64 row) {
    int level = 0;
    int64 plane = plane_of(pyramid, 0);
    for (; row >= pyramid.views * plane; plane = plane_of(pyramid, ++level)) row -= pyramid.views * plane;
    return {level, {row, plane}};
}
// Where the first channel of a pixel lies in an image.
DEVICE int64 channel_of(const PyramidArguments& pyramid, const Cell& cell) {
    return cell.pixel + view_of(pyramid, cell.pixel, cell.plane) * (pyramid.channels - 1) * cell.plane;
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

// One index is one row.
KERNEL(raster_clear, RasterizeArguments) {
    FOR_EACH (i, args.row_count) {
        const LevelCell at = find_row(args.bands.pyramid, i);
        args.bands.pyramid.depth[at.level][at.cell.pixel] = (real)float_of_bits(0x7f800000);  // infinity
    }
}

KERNEL(raster_depth, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 points = args.bands.blocks.points;
    FOR_EACH (i, pyramid.views * points) {
        if (!is_drawn(args, i)) continue;
        const real z = args.projected.z[i];
        const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
        const int64 view = view_of(pyramid, i, points);
        const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
        for (int level = 0; level < count; ++level) {
            real* depth = pyramid.depth[level] + find_cell(pyramid, view, x, y, level).pixel;
            if (z < load(depth)) atomic_min(depth, z);
        }
    }
}

// Rows must hold zeros; they get the sums of the features and the weight.
KERNEL(raster_blend, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 points = args.bands.blocks.points, channels = pyramid.channels, size = row_size(pyramid);
    FOR_EACH (i, pyramid.views * points) {
        if (!is_drawn(args, i)) continue;
        const int64 view = view_of(pyramid, i, points);
        const real* feature = pyramid.features + (i - view * points) * pyramid.row;
        const Vec3 change = harmonic_change(pyramid, view, i - view * points);
        const real z = args.projected.z[i];
        const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
        const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
        real* rows = args.rows;
        for (int level = 0; level < count; ++level) {
            const Cell cell = find_cell(pyramid, view, x, y, level);
            real* row = rows + cell.pixel * size;
            rows += pyramid.views * cell.plane * size;
            if (!(z <= pyramid.depth[level][cell.pixel] * tolerance_of(pyramid))) continue;
            const Peers peers = find_peers(row);
            for (int64 first = 0; first <= channels; first += 4) {
                real four[4];
                for (int k = 0; k < 4; ++k)
                    four[k] = first + k < channels ? feature[first + k] + component(change, first + k) : 0;
                if (first < channels) sum_of_peers(peers, four);
                for (int k = 0; k < 4; ++k)
                    if (first + k == channels) four[k] = (real)count_peers(peers);
                if (is_first(peers)) add_four(row + first, four);
            }
        }
    }
}

// One index is one row, whose sums become a pixel of the weight and of the image.
KERNEL(raster_normalise, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 channels = pyramid.channels, size = row_size(pyramid);
    FOR_EACH (i, args.row_count) {
        const LevelCell at = find_row(pyramid, i);
        const real *sums = args.rows + i * size, *background = pyramid.background[at.level];
        const real weight = sums[channels];
        const int64 first = channel_of(pyramid, at.cell);
        pyramid.weight[at.level][at.cell.pixel] = weight;
        for (int64 c = 0; c < channels; ++c) {
            const int64 place = first + c * at.cell.plane;
            pyramid.image[at.level][place] =
                weight > 0 ? sums[c] / weight : background[pyramid.background_full ? place : c];
        }
    }
}

// One index is one row, which gets the gradient of a pixel's sums, and its depth.
KERNEL(raster_load_gradients, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 channels = pyramid.channels, size = row_size(pyramid);
    FOR_EACH (i, args.row_count) {
        const LevelCell at = find_row(pyramid, i);
        const real weight = pyramid.weight[at.level][at.cell.pixel];
        const real* grad = args.bands.gradients.image[at.level] + channel_of(pyramid, at.cell);
        real* row = args.rows + i * size;
        for (int64 c = 0; c < channels; ++c) row[c] = weight > 0 ? grad[c * at.cell.plane] / weight : 0;
        row[channels] = pyramid.depth[at.level][at.cell.pixel];
    }
}

// One index is one point, which owns its row of the features' gradient.
KERNEL(raster_backward_features, RasterizeArguments) {
    const PyramidArguments& pyramid = args.bands.pyramid;
    const int64 points = args.bands.blocks.points, channels = pyramid.channels, size = row_size(pyramid);
    FOR_EACH (n, points) {
        real* out = args.bands.gradients.features + n * pyramid.row;
        for (int64 view = 0; view < pyramid.views; ++view) {
            const int64 i = view * points + n;
            if (!is_drawn(args, i)) continue;
            Vec3 colour = {0, 0, 0};
            const real z = args.projected.z[i];
            const int x = (int)args.projected.uv[2 * i], y = (int)args.projected.uv[2 * i + 1];
            const int count = count_detail_levels(pyramid, args.projected.radius_px[i]);
            const real* rows = args.rows;
            for (int level = 0; level < count; ++level) {
                const Cell cell = find_cell(pyramid, view, x, y, level);
                const real* row = rows + cell.pixel * size;
                rows += pyramid.views * cell.plane * size;
                if (!(z <= row[channels] * tolerance_of(pyramid))) continue;
                for (int64 c = 0; c < channels; ++c) {
                    out[c] += row[c];
                    if (c < 3) add_component(colour, c, row[c]);
                }
            }
            add_harmonic_gradient(pyramid, view, n, colour, out);
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
