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

// The same for a footprint of 2 x 2 pixels around the point's place (pu, pv), whose bilinear weights move with it.
template <int CHANNELS>
DEVICE void bilinear_slope(const Arguments& args, const Hit& hit, int levels, const real* cells, const BandLevel* layout, real pu, real pv,
                           real* u, real* v) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 3;
    const real tolerance = (real)(1 + args.depth_tolerance);
    const real* feature = args.features + (int64)hit.point * channels;
    real scale = 1;
    *u = 0, *v = 0;
    for (int level = 0; level < levels; ++level, scale *= (real)0.5) {
        const BandLevel& b = layout[level];
        const real left = floor(pu * scale - (real)0.5), top = floor(pv * scale - (real)0.5);
        const int x = (int)left, y = (int)top;
        if (x < 0 || y < 0 || x + 1 >= b.columns || y + 1 >= b.rows) continue;
        const real part_x = pu * scale - (real)0.5 - left, part_y = pv * scale - (real)0.5 - top;
        const real* cell = cells + (b.first + (int64)(y - b.row_first) * b.columns + x) * stride;
        const real* below = cell + (int64)b.columns * stride;
        const real first = felt(cell, feature, hit.z, tolerance, channels), second = felt(cell + stride, feature, hit.z, tolerance, channels);
        const real third = felt(below, feature, hit.z, tolerance, channels), last = felt(below + stride, feature, hit.z, tolerance, channels);
        *u += scale * ((1 - part_y) * (second - first) + part_y * (last - third));
        *v += scale * ((1 - part_x) * (third - first) + part_x * (last - second));
    }
}

typedef Vec3 (*Adjoint)(const View&, Vec3, real, real, real, real*);
typedef Pixel (*Projector)(const View&, Vec3);
// A camera model, for the backward pass of draw; empty for that of rasterize.
struct LensModel {
    Projector project;
    Adjoint adjoint;
};
template <int MODEL>
static Pixel project_alone(const View& c, Vec3 world) {
    const Vec3 p = transform(c.pose, world);
    return project_lens<MODEL>(c, c.shutter == nullptr ? p : read_out<MODEL>(c, p));
}


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
DEVICE void add_slope(const Arguments& args, const View& c, const Hit& hit, int64 view, int levels, const real* cells, const BandLevel* layout,
                      const LensModel& model, double* sums) {
    real u, v;
    if (args.bilinear) {
        const real* uv = args.uv + 2 * (view * args.points + hit.point);
        const Pixel pixel = model.project ? model.project(c, load_vec3(args.xyz, hit.point)) : Pixel{uv[0], uv[1], 0, 0, 0, 0, 0};
        bilinear_slope<CHANNELS>(args, hit, levels, cells, layout, pixel.u, pixel.v, &u, &v);
    } else {
        ghost_slope<CHANNELS>(args, hit, levels, cells, layout, &u, &v);
    }
    add_position_gradient(args, c, hit, view, u, v, model.adjoint, sums);
}

template <int CHANNELS, bool SPATIAL>
static void backward_band(const Arguments& args, const View& c, int64 view, int64 band, const LensModel& model) {
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
    // Ghosts are the second half of the classes; the first are drawn, and feel a slope only by a footprint.
    for (int kind = args.bilinear ? 0 : (int)args.levels; kind < 2 * args.levels; ++kind) {
        const int levels = (int)(args.levels - kind % args.levels);
        for_each_hit<true>(args, view, band, kind, [&](const Hit& hit) {
            add_slope<CHANNELS>(args, c, hit, view, levels, cells.get(), layout, model, sums);
        });
    }
    if (!args.grad_parameters) return;
    real* out = args.grad_parameters + (view * count_bands(args) + band) * PARAMETERS;
    for (int j = 0; j < PARAMETERS; ++j) out[j] = (real)sums[j];
}

// Views one after the other, because a point's gradient row is shared between them; bands of a view in parallel.
template <int CHANNELS>
static void backward_bands(const Arguments& args, int threads, const LensModel& model) {
    const bool spatial = args.grad_uv || args.grad_xyz;
    for (int64 view = 0; view < args.views; ++view) {
        const View c = model.adjoint ? load_view(args, view) : View();
        parallel_for(count_bands(args), threads, [&](int64 band) {
            if (spatial) backward_band<CHANNELS, true>(args, c, view, band, model);
            else backward_band<CHANNELS, false>(args, c, view, band, model);
        });
    }
}
