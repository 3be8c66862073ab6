// Backward passes in the CPU's band order: each band gathers the gradients of its own hits.
#pragma once
#include "bands.h"
#include "harmonics.h"
#include "interleave.h"
#include "slopes.h"

struct PixelPosition {
    real u, v;
};

// Where the gradients of the points' positions go.
struct PositionGradient {
    virtual ~PositionGradient() {}
    // Returns where a point lies in a view, in pixels of level 0.
    virtual PixelPosition position(int64 view, int point) const = 0;
    // Takes a point's slope; `sums` [PARAMETERS] are the band's own.
    virtual void add(int64 view, int point, Slope slope, double* sums) const = 0;
    // Takes the sums of a band.
    virtual void store(int64 view, int64 band, const double* sums) const = 0;
};

// The position gradients of rasterize go to grad_uv.
struct PixelGradient : PositionGradient {
    const RasterizeArguments& args;

    explicit PixelGradient(const RasterizeArguments& args) : args(args) {}
    PixelPosition position(int64 view, int point) const override {
        const real* uv = args.projected.uv + 2 * (view * args.bands.blocks.points + point);
        return {uv[0], uv[1]};
    }
    void add(int64 view, int point, Slope slope, double*) const override {
        real* out = args.grad_uv + 2 * (view * args.bands.blocks.points + point);
        out[0] = slope.u, out[1] = slope.v;
    }
    void store(int64, int64, const double*) const override {}
};

// Loads cells as load_planes writes them; the halo brings the neighbours of the edge rows.
template <int CHANNELS, bool SPATIAL>
static void load_band(const BandArguments& args, int64 view, real* cells, const BandLevel* layout) {
    const PyramidArguments& pyramid = args.pyramid;
    const int channels = CHANNELS ? CHANNELS : (int)pyramid.channels, stride = channels + (SPATIAL ? 3 : 1);
    for (int level = 0; level < pyramid.levels; ++level) {
        const BandLevel& b = layout[level];
        const int first = std::max(b.row_first, 0), last = std::min(b.row_last, b.rows);
        const int64 at = (int64)first * b.columns;
        GradientPlanes in;
        in.plane = (int64)b.rows * b.columns, in.count = (int64)(last - first) * b.columns;
        in.depth = pyramid.depth[level] + view * in.plane + at,
        in.weight = pyramid.weight[level] + view * in.plane + at;
        in.grad = args.gradients.image[level] + view * channels * in.plane + at;
        in.image = SPATIAL ? pyramid.image[level] + view * channels * in.plane + at : nullptr;
        load_planes<CHANNELS, SPATIAL>(in, cells + cell_at(b, 0, first) * stride, channels);
    }
}

// Whether a hit is in front in a cell of gradients, whose depth comes after the C channels.
template <int CHANNELS>
DEVICE bool counts_in(const BandArguments& args, const Hit& hit, const real* cell) {
    const int channels = CHANNELS ? CHANNELS : (int)args.pyramid.channels;
    return hit.z <= cell[channels] * (real)(1 + args.pyramid.depth_tolerance);
}

// `cells` has `stride` values a cell, the first C the gradient per weight, then the depth. Returns whether the hit
// counts at any level.
template <int CHANNELS>
DEVICE bool add_feature_gradient(const BandArguments& args, int64 view, const Hit& hit, int levels, const real* cells,
                                 int stride, const BandLevel* layout) {
    const int channels = CHANNELS ? CHANNELS : (int)args.pyramid.channels;
    real* out = args.gradients.features + (int64)hit.point * args.pyramid.row;
    real own[CHANNELS ? CHANNELS : 1] = {0};
    Vec3 colour = {0, 0, 0};
    bool shown = false;
    for (int level = 0; level < levels; ++level) {
        const real* cell = cells + cell_of(layout[level], hit, level) * stride;
        if (!counts_in<CHANNELS>(args, hit, cell)) continue;
        shown = true;
        for (int c = 0; c < CHANNELS; ++c) own[c] += cell[c];
        if (CHANNELS) continue;
        for (int c = 0; c < channels; ++c) out[c] += cell[c];
        for (int c = 0; c < std::min(channels, 3); ++c) add_component(colour, c, cell[c]);
    }
    if (!shown) return false;
    for (int c = 0; c < CHANNELS; ++c) out[c] += own[c];
    if (CHANNELS >= 3) colour = load_vec3(own, 0);
    add_harmonic_gradient(args.pyramid, view, hit.point, colour, out);
    return true;
}

template <int CHANNELS>
static void add_feature_gradients(const BandArguments& args, int64 view, int64 band, const real* cells, int stride,
                                  const BandLevel* layout) {
    for (int64 kind = 0; kind < args.pyramid.levels; ++kind) {
        const int levels = (int)(args.pyramid.levels - kind);
        const auto counts = [&](const Hit& hit, int level) {
            return counts_in<CHANNELS>(args, hit, cells + cell_of(layout[level], hit, level) * stride);
        };
        for_each_shown(args, view, band, kind, args.gradients.features, counts, [&](const Hit& hit) {
            return add_feature_gradient<CHANNELS>(args, view, hit, levels, cells, stride, layout);
        });
    }
}

// The drawn images beside one hit, in the cells of a band; see slopes.h and load_planes.
template <int CHANNELS>
struct BandPyramid {
    const BandArguments& args;
    const real* cells;
    const BandLevel* layout;
    const Hit& hit;
    const Vec3 harmonics;  // what they add to the hit's feature

    METHOD int columns(int level) const { return layout[level].columns; }
    METHOD int rows(int level) const { return layout[level].rows; }
    METHOD real change(int level, int x, int y) const {
        const int channels = CHANNELS ? CHANNELS : (int)args.pyramid.channels;
        const real* feature = args.pyramid.features + (int64)hit.point * args.pyramid.row;
        const real* cell = cells + cell_at(layout[level], x, y) * (channels + 3);
        const real weight = cell[channels + 1];
        const auto gain = [&] {
            real along = -cell[channels + 2];
            for (int c = 0; c < channels; ++c) along += (feature[c] + component(harmonics, c)) * cell[c];
            return weight == 0 ? along : along * weight;  // cells hold the gradient over max(weight, 1)
        };
        const real tolerance = (real)(1 + args.pyramid.depth_tolerance);
        return change_by_drawing(hit.z, cell[channels], weight, tolerance, gain);
    }
};

template <int CHANNELS, bool SPATIAL>
static void backward_band(const BandArguments& args, int64 view, int64 band, const PositionGradient* positions) {
    BandLevel layout[MAX_LEVELS];
    const int64 count = layout_band(args, band, SPATIAL ? 1 : 0, layout), most = args.pyramid.levels;
    const int stride = (CHANNELS ? CHANNELS : (int)args.pyramid.channels) + (SPATIAL ? 3 : 1);
    std::unique_ptr<real[]> cells(new real[count * stride]);
    load_band<CHANNELS, SPATIAL>(args, view, cells.get(), layout);
    if (args.gradients.features) add_feature_gradients<CHANNELS>(args, view, band, cells.get(), stride, layout);
    if (!SPATIAL) return;
    double sums[PARAMETERS] = {0};
    const bool bilinear = args.gradients.bilinear != 0;
    // The first half of the classes are drawn points, which have a slope only by a footprint; the second half are
    // ghosts.
    for (int64 kind = bilinear ? 0 : most; kind < 2 * most; ++kind) {
        const int levels = (int)(most - kind % most);
        for_each_hit(args, view, band, kind, [&](const Hit& hit) {
            const Vec3 harmonics = harmonic_change(args.pyramid, view, hit.point);
            const BandPyramid<CHANNELS> pyramid = {args, cells.get(), layout, hit, harmonics};
            Slope slope;
            if (bilinear) {
                const PixelPosition uv = positions->position(view, hit.point);
                slope = sum_bilinear_slopes(pyramid, levels, uv.u, uv.v);
            } else {
                slope = sum_ghost_slopes(pyramid, levels, hit.x, hit.y);
            }
            positions->add(view, hit.point, slope, sums);
        });
    }
    positions->store(view, band, sums);
}

// Views one after the other, because they share the gradient row of a point; the bands of a view in parallel.
// `positions` is null where no position has a gradient.
template <int CHANNELS>
static void backward_bands(const BandArguments& args, const PositionGradient* positions, int threads) {
    for (int64 view = 0; view < args.pyramid.views; ++view) {
        parallel_for(count_bands(args), threads, [&](int64 band, int) {
            if (positions) backward_band<CHANNELS, true>(args, view, band, positions);
            else backward_band<CHANNELS, false>(args, view, band, nullptr);
        });
    }
}
