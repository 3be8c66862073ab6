// Backward passes in the CPU's band order: each band gathers the gradients of its own hits.
#pragma once
#include "bands.h"

// Cells as in load_planes; the halo makes the neighbours of the edge rows known.
template <int CHANNELS, bool SPATIAL>
static void load_band(const Arguments& args, int64 view, real* cells, const BandLevel* layout) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + (SPATIAL ? 3 : 1);
    for (int level = 0; level < args.levels; ++level) {
        const BandLevel& b = layout[level];
        const int first = std::max(b.row_first, 0), last = std::min(b.row_last, b.rows);
        const int64 at = (int64)first * b.columns;
        GradientPlanes in;
        in.plane = (int64)b.rows * b.columns, in.count = (int64)(last - first) * b.columns;
        in.depth = args.depth[level] + view * in.plane + at, in.weight = args.weight[level] + view * in.plane + at;
        in.grad = args.grad_image[level] + view * channels * in.plane + at;
        in.image = SPATIAL ? args.image[level] + view * channels * in.plane + at : nullptr;
        load_planes<CHANNELS, SPATIAL>(in, cells + (b.first + (int64)(first - b.row_first) * b.columns) * stride, channels);
    }
}

// `cells` has `stride` values a cell, the first C the gradient per weight, then the depth.
template <int CHANNELS>
DEVICE void add_feature_gradient(const Arguments& args, const Hit& hit, int levels, const real* cells, int stride,
                                 const BandLevel* layout) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels;
    const real tolerance = (real)(1 + args.depth_tolerance);
    real* out = args.grad_features + (int64)hit.point * channels;
    real own[CHANNELS ? CHANNELS : 1];
    for (int c = 0; c < CHANNELS; ++c) own[c] = out[c];
    real* sum = CHANNELS ? own : out;
    for (int level = 0; level < levels; ++level) {
        const real* cell = cells + cell_of(layout[level], hit, level) * stride;
        if (!(hit.z <= cell[channels] * tolerance)) continue;
        for (int c = 0; c < channels; ++c) sum[c] += cell[c];
    }
    for (int c = 0; c < CHANNELS; ++c) out[c] = own[c];
}

// What the loss would feel if the ghost were drawn in this cell; see ghost_change of rasterize.cu.
DEVICE real felt(const real* cell, const real* feature, real z, real tolerance, int channels) {
    real along = -cell[channels + 2];
    for (int c = 0; c < channels; ++c) along += feature[c] * cell[c];
    const real depth = cell[channels], weight = cell[channels + 1];
    if (weight == 0) return along;
    if (z * tolerance < depth) return along * weight;
    return z > depth * tolerance ? 0 : along * weight / (weight + 1);
}

template <int CHANNELS>
DEVICE void ghost_slope(const Arguments& args, const Hit& hit, int levels, const real* cells, const BandLevel* layout, real* u, real* v) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 3;
    const real tolerance = (real)(1 + args.depth_tolerance);
    const real* feature = args.features + (int64)hit.point * channels;
    real scale = (real)0.5;
    *u = 0, *v = 0;
    for (int level = 0; level < levels; ++level, scale *= (real)0.5) {
        const BandLevel& b = layout[level];
        const int x = hit.x >> level, y = hit.y >> level;
        if (x < 2 || y < 2 || x >= b.columns - 2 || y >= b.rows - 2) continue;
        const real* cell = cells + cell_of(b, hit, level) * stride;
        const int64 down = (int64)b.columns * stride;
        *u += scale * (felt(cell + stride, feature, hit.z, tolerance, channels) -
                       felt(cell - stride, feature, hit.z, tolerance, channels));
        *v += scale * (felt(cell + down, feature, hit.z, tolerance, channels) -
                       felt(cell - down, feature, hit.z, tolerance, channels));
    }
}

typedef Vec3 (*Adjoint)(const View&, Vec3, real, real, real, real*);

// Hands the gradient of a ghost's pixel on: to grad_uv for rasterize, through the camera for draw.
static inline void add_position_gradient(const Arguments& args, const View& c, const Hit& hit, int64 view, real u, real v,
                                         Adjoint adjoint, double* sums) {
    if (args.grad_uv) {
        real* out = args.grad_uv + 2 * (view * args.points + hit.point);
        out[0] = u, out[1] = v;
        return;
    }
    real g[PARAMETERS] = {0};
    const Vec3 grad = adjoint(c, load_vec3(args.xyz, hit.point), u, v, 0, g);
    for (int j = 0; j < PARAMETERS; ++j) sums[j] += g[j];
    real* out = args.grad_xyz + 3 * (int64)hit.point;
    out[0] += grad.x, out[1] += grad.y, out[2] += grad.z;
}

template <int CHANNELS, bool SPATIAL>
static void backward_band(const Arguments& args, const View& c, int64 view, int64 band, Adjoint adjoint) {
    BandLevel layout[MAX_LEVELS];
    const int64 count = layout_band(args, band, SPATIAL ? 1 : 0, layout);
    const int stride = (CHANNELS ? CHANNELS : (int)args.channels) + (SPATIAL ? 3 : 1);
    std::unique_ptr<real[]> cells(new real[count * stride]);
    load_band<CHANNELS, SPATIAL>(args, view, cells.get(), layout);
    for (int kind = 0; args.grad_features && kind < args.levels; ++kind) {
        const int levels = (int)args.levels - kind;
        for_each_hit<false>(args, view, band, kind, [&](const Hit& hit) {
            add_feature_gradient<CHANNELS>(args, hit, levels, cells.get(), stride, layout);
        });
    }
    if (!SPATIAL) return;
    double sums[PARAMETERS] = {0};
    for (int kind = 0; kind < args.levels; ++kind) {
        const int levels = (int)args.levels - kind;
        for_each_hit<true>(args, view, band, args.levels + kind, [&](const Hit& hit) {
            real u, v;
            ghost_slope<CHANNELS>(args, hit, levels, cells.get(), layout, &u, &v);
            add_position_gradient(args, c, hit, view, u, v, adjoint, sums);
        });
    }
    if (!args.grad_parameters) return;
    real* out = args.grad_parameters + (view * count_bands(args) + band) * PARAMETERS;
    for (int j = 0; j < PARAMETERS; ++j) out[j] = (real)sums[j];
}

// Views one after the other, because a point's gradient row is shared between them; bands of a view in parallel.
template <int CHANNELS>
static void backward_bands(const Arguments& args, int threads, Adjoint adjoint) {
    const bool spatial = args.grad_uv || args.grad_xyz;
    for (int64 view = 0; view < args.views; ++view) {
        const View c = adjoint ? load_view(args, view) : View();
        parallel_for(count_bands(args), threads, [&](int64 band) {
            if (spatial) backward_band<CHANNELS, true>(args, c, view, band, adjoint);
            else backward_band<CHANNELS, false>(args, c, view, band, adjoint);
        });
    }
}
