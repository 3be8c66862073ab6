// Depth and blending in the CPU's band order.
#pragma once
#include "bands.h"
#include "harmonics.h"
#include "interleave.h"

// Halves a plane by the minimum of 2 x 2 pixels; at odd edges of as many as there are.
static void pool_depth(const real* from, const BandLevel& fine, real* to, const BandLevel& coarse) {
    const int rows = fine.row_last - fine.row_first, pairs = fine.columns / 2;
    for (int y = 0; y < coarse.row_last - coarse.row_first; ++y) {
        const real* above = from + (int64)2 * y * fine.columns;
        const real* below = 2 * y + 1 < rows ? above + fine.columns : above;
        real* out = to + (int64)y * coarse.columns;
#pragma GCC ivdep
        for (int x = 0; x < pairs; ++x) {
            const real a = above[2 * x] < above[2 * x + 1] ? above[2 * x] : above[2 * x + 1];
            const real b = below[2 * x] < below[2 * x + 1] ? below[2 * x] : below[2 * x + 1];
            out[x] = a < b ? a : b;
        }
        if (pairs < coarse.columns) out[pairs] = std::min(above[2 * pairs], below[2 * pairs]);
    }
}

// Fills depth, class by class, from the points of all levels to those of level 0 only. Once all points that are drawn
// at a level lie in the finest plane, that level is its pooled minimum, so that a point is scattered only once. Depth
// must hold infinities.
static void fill_depth(const BandArguments& args, int64 view, int64 band, real* depth, const BandLevel* layout) {
    const BandLevel finest = layout[0];
    const int levels = (int)args.pyramid.levels;
    for (int kind = 0; kind < levels; ++kind) {
        const bool any = for_each_hit(args, view, band, kind, [&](const Hit& hit) {
            real* cell = depth + (int64)(hit.y - finest.row_first) * finest.columns + hit.x;
            *cell = hit.z < *cell ? hit.z : *cell;
        });
        for (int level = 1; any && level < levels - kind; ++level)
            pool_depth(depth + layout[level - 1].first, layout[level - 1], depth + layout[level].first, layout[level]);
    }
}

// Cells hold C sums, then the weight. CHANNELS is C, or 0 where C is only known at run time.
template <int CHANNELS>
static void blend_band(const BandArguments& args, int64 view, int64 band, const real* depth, real* sums,
                       const BandLevel* layout) {
    const int channels = CHANNELS ? CHANNELS : (int)args.pyramid.channels, stride = channels + 1;
    const real tolerance = (real)(1 + args.pyramid.depth_tolerance);
    for (int kind = 0; kind < args.pyramid.levels; ++kind) {
        const int levels = (int)args.pyramid.levels - kind;
        const auto counts = [&](const Hit& hit, int level) {
            return hit.z <= depth[cell_of(layout[level], hit, level)] * tolerance;
        };
        for_each_shown(args, view, band, kind, args.pyramid.features, counts, [&](const Hit& hit) {
            const real* feature = args.pyramid.features + (int64)hit.point * args.pyramid.row;
            const Vec3 change = harmonic_change(args.pyramid, view, hit.point);
            real own[CHANNELS ? CHANNELS : 1];  // a copy, which the compiler knows to be apart from the cells
            for (int c = 0; c < CHANNELS; ++c) own[c] = feature[c] + component(change, c);
            bool shown = false;
            for (int level = 0; level < levels; ++level) {
                if (!counts(hit, level)) continue;
                shown = true;
                real* cell = sums + cell_of(layout[level], hit, level) * stride;
                for (int c = 0; c < channels; ++c) cell[c] += CHANNELS ? own[c] : feature[c] + component(change, c);
                cell[channels] += 1;
            }
            return shown;
        });
    }
}

template <int CHANNELS>
static void store_band(const BandArguments& args, int64 view, const real* depth, const real* sums,
                       const BandLevel* layout) {
    const PyramidArguments& pyramid = args.pyramid;
    const int channels = CHANNELS ? CHANNELS : (int)pyramid.channels;
    for (int level = 0; level < pyramid.levels; ++level) {
        const BandLevel& b = layout[level];
        Planes out;
        out.plane = (int64)b.rows * b.columns, out.count = (int64)(b.row_last - b.row_first) * b.columns;
        const int64 at = (int64)b.row_first * b.columns, first = view * channels * out.plane + at;
        std::memcpy(pyramid.depth[level] + view * out.plane + at, depth + b.first, out.count * sizeof(real));
        out.weight = pyramid.weight[level] + view * out.plane + at;
        out.image = pyramid.image[level] + first;
        out.background_full = pyramid.background_full != 0;
        out.background = pyramid.background[level] + (pyramid.background_full ? first : 0);
        store_planes<CHANNELS>(sums + b.first * (channels + 1), out, channels);
    }
}

template <int CHANNELS>
static void draw_bands(const BandArguments& args, int threads) {
    const int bands = count_bands(args);
    parallel_for(args.pyramid.views * bands, threads, [&](int64 task, int) {
        const int64 view = task / bands, band = task % bands;
        BandLevel layout[MAX_LEVELS];
        const int64 cells = layout_band(args, band, 0, layout);
        std::vector<real> depth(cells, std::numeric_limits<real>::infinity()),
            sums(cells * (args.pyramid.channels + 1));
        fill_depth(args, view, band, depth.data(), layout);
        blend_band<CHANNELS>(args, view, band, depth.data(), sums.data(), layout);
        store_band<CHANNELS>(args, view, depth.data(), sums.data(), layout);
    });
}
