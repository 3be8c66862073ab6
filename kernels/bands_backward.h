// Backward passes in the CPU's band order: each band gathers the gradients of its own hits.
#pragma once
#include "bands.h"

// Cells hold depth, weight, image . grad_image, then C gradients; the halo makes the neighbours of the edge rows known.
template <int CHANNELS>
static void load_band(const Arguments& args, int64 view, real* scratch, const BandLevel* layout, bool spatial) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 3;
    for (int level = 0; level < args.levels; ++level) {
        const BandLevel& b = layout[level];
        const int64 plane = (int64)b.rows * b.columns;
        const int first = std::max(b.row_first, 0), last = std::min(b.row_last, b.rows);
        const int64 count = (int64)(last - first) * b.columns, at = (int64)first * b.columns;
        real* cell = scratch + (b.first + (int64)(first - b.row_first) * b.columns) * stride;
        const real* depth = args.depth[level] + view * plane + at;
        const real* weight = args.weight[level] + view * plane + at;
        for (int64 i = 0; i < count; ++i)
            cell[i * stride] = depth[i], cell[i * stride + 1] = weight[i], cell[i * stride + 2] = 0;
        for (int c = 0; c < channels; ++c) {
            const int64 offset = (view * channels + c) * plane + at;
            const real* grad = args.grad_image[level] + offset;
            for (int64 i = 0; i < count; ++i) cell[i * stride + 3 + c] = grad[i];
            if (!spatial) continue;
            const real* image = args.image[level] + offset;
            for (int64 i = 0; i < count; ++i) cell[i * stride + 2] += image[i] * grad[i];
        }
    }
}

template <int CHANNELS>
DEVICE void add_feature_gradient(const Arguments& args, const Hit& hit, const real* scratch, const BandLevel* layout) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 3;
    const real tolerance = (real)(1 + args.depth_tolerance);
    real* out = args.grad_features + (int64)hit.point * channels;
    for (int level = 0; level < hit.levels; ++level) {
        const real* cell = scratch + cell_of(layout[level], hit, level) * stride;
        if (!(hit.z <= cell[0] * tolerance)) continue;
        const real share = 1 / cell[1];
        for (int c = 0; c < channels; ++c) out[c] += cell[3 + c] * share;
    }
}

// What the loss would feel if the ghost were drawn in this cell; see ghost_change of rasterize.cu.
template <int CHANNELS>
DEVICE real felt(const real* cell, const real* feature, real z, real tolerance, int channels) {
    real along = -cell[2];
    for (int c = 0; c < channels; ++c) along += feature[c] * cell[3 + c];
    if (cell[1] == 0 || z * tolerance < cell[0]) return along;
    return z > cell[0] * tolerance ? 0 : along / (cell[1] + 1);
}

template <int CHANNELS>
DEVICE void ghost_slope(const Arguments& args, const Hit& hit, const real* scratch, const BandLevel* layout, real* u, real* v) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 3;
    const real tolerance = (real)(1 + args.depth_tolerance);
    const real* feature = args.features + (int64)hit.point * channels;
    real scale = (real)0.5;
    *u = 0, *v = 0;
    for (int level = 0; level < hit.levels - GHOST; ++level, scale *= (real)0.5) {
        const BandLevel& b = layout[level];
        const int x = hit.x >> level, y = hit.y >> level;
        if (x < 2 || y < 2 || x >= b.columns - 2 || y >= b.rows - 2) continue;
        const real* cell = scratch + cell_of(b, hit, level) * stride;
        const int64 down = (int64)b.columns * stride;
        *u += scale * (felt<CHANNELS>(cell + stride, feature, hit.z, tolerance, channels) -
                       felt<CHANNELS>(cell - stride, feature, hit.z, tolerance, channels));
        *v += scale * (felt<CHANNELS>(cell + down, feature, hit.z, tolerance, channels) -
                       felt<CHANNELS>(cell - down, feature, hit.z, tolerance, channels));
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

template <int CHANNELS>
static void backward_band(const Arguments& args, const View& c, int64 view, int64 band, Adjoint adjoint) {
    const bool spatial = args.grad_uv || args.grad_xyz;
    BandLevel layout[MAX_LEVELS];
    const int64 cells = layout_band(args, band, spatial ? 1 : 0, layout);
    std::vector<real> scratch(cells * (args.channels + 3));
    load_band<CHANNELS>(args, view, scratch.data(), layout, spatial);
    double sums[PARAMETERS] = {0};
    for_each_hit(args, view, band, [&](const Hit& hit) {
        if (hit.levels < GHOST) {
            if (args.grad_features) add_feature_gradient<CHANNELS>(args, hit, scratch.data(), layout);
        } else if (spatial) {
            real u, v;
            ghost_slope<CHANNELS>(args, hit, scratch.data(), layout, &u, &v);
            add_position_gradient(args, c, hit, view, u, v, adjoint, sums);
        }
    });
    if (!args.grad_parameters) return;
    real* out = args.grad_parameters + (view * count_bands(args) + band) * PARAMETERS;
    for (int j = 0; j < PARAMETERS; ++j) out[j] = (real)sums[j];
}

// Views one after the other, because a point's gradient row is shared between them; bands of a view in parallel.
template <int CHANNELS>
static void backward_bands(const Arguments& args, int threads, Adjoint adjoint) {
    for (int64 view = 0; view < args.views; ++view) {
        const View c = adjoint ? load_view(args, view) : View();
        parallel_for(count_bands(args), threads, [&](int64 band) { backward_band<CHANNELS>(args, c, view, band, adjoint); });
    }
}
