// Conversion between planes and interleaved cells, four pixels at a time where the number of channels is a multiple of
// four. CPU only.
#pragma once
#include "portable.h"

// One level of a band to store: cells of C sums and the weight become planes.
struct Planes {
    real* weight;
    real* image;             // first channel; the next is `plane` further
    const real* background;  // the same, or C values unless background_full
    int64 plane, count;
    bool background_full;
};

// One level of a band to load: planes of gradients become cells of C gradients per weight, depth, and what ghosts need.
struct GradientPlanes {
    const real *depth, *weight;
    const real *image, *grad;  // first channel
    int64 plane, count;
};

#if defined(__GNUC__)
template <class Real>
struct Four;
template <>
struct Four<float> {
    typedef float Vector __attribute__((vector_size(16), aligned(4)));
    typedef int Mask __attribute__((vector_size(16)));
};
template <>
struct Four<double> {
    typedef double Vector __attribute__((vector_size(32), aligned(8)));
    typedef long long Mask __attribute__((vector_size(32)));
};
typedef Four<real>::Vector Vector4;
typedef Four<real>::Mask Mask4;

DEVICE Vector4 load4(const real* from) { return *(const Vector4*)from; }
DEVICE void store4(real* to, Vector4 value) { *(Vector4*)to = value; }
#if defined(__clang__)
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, Mask4{i, j, k, l})
#endif
DEVICE void transpose4(Vector4* v) {
    const Vector4 p = SHUFFLE4(v[0], v[1], 0, 4, 1, 5), q = SHUFFLE4(v[2], v[3], 0, 4, 1, 5);
    const Vector4 r = SHUFFLE4(v[0], v[1], 2, 6, 3, 7), s = SHUFFLE4(v[2], v[3], 2, 6, 3, 7);
    v[0] = SHUFFLE4(p, q, 0, 1, 4, 5), v[1] = SHUFFLE4(p, q, 2, 3, 6, 7);
    v[2] = SHUFFLE4(r, s, 0, 1, 4, 5), v[3] = SHUFFLE4(r, s, 2, 3, 6, 7);
}

// Writes all whole groups of four pixels and returns how many pixels those are. CHANNELS is a multiple of four.
template <int CHANNELS>
static int64 store_fours(const real* cells, const Planes& out) {
    const int stride = CHANNELS + 1;
    int64 i = 0;
    for (; i + 4 <= out.count; i += 4) {
        const real* cell = cells + i * stride;
        const real* last = cell + CHANNELS;
        const Vector4 weight = {last[0], last[stride], last[2 * stride], last[3 * stride]};
        store4(out.weight + i, weight);
        const Mask4 full = weight > 0;
        for (int first = 0; first < CHANNELS; first += 4) {
            const real* sum = cell + first;
            Vector4 v[4] = {load4(sum), load4(sum + stride), load4(sum + 2 * stride), load4(sum + 3 * stride)};
            transpose4(v);
            for (int k = 0; k < 4; ++k) {
                const int64 at = (first + k) * out.plane + i;
                const Vector4 empty =
                    out.background_full ? load4(out.background + at) : Vector4{} + out.background[first + k];
                store4(out.image + at, full ? v[k] / weight : empty);
            }
        }
    }
    return i;
}

// Reads all whole groups of four pixels and returns how many pixels those are. CHANNELS is a multiple of four.
template <int CHANNELS, bool SPATIAL>
static int64 load_fours(const GradientPlanes& in, real* cells) {
    const int stride = CHANNELS + (SPATIAL ? 3 : 1);
    int64 i = 0;
    for (; i + 4 <= in.count; i += 4) {
        real* cell = cells + i * stride;
        const Vector4 weight = load4(in.weight + i), depth = load4(in.depth + i);
        const Vector4 share = weight > 1 ? weight : Vector4{} + 1;
        Vector4 along = {};
        for (int first = 0; first < CHANNELS; first += 4) {
            Vector4 v[4];
            for (int k = 0; k < 4; ++k) {
                const int64 at = (first + k) * in.plane + i;
                v[k] = load4(in.grad + at) / share;
                if (SPATIAL) along += load4(in.image + at) * v[k];
            }
            transpose4(v);
            for (int k = 0; k < 4; ++k) store4(cell + k * stride + first, v[k]);
        }
        for (int k = 0; k < 4; ++k) {
            real* rest = cell + k * stride + CHANNELS;
            rest[0] = depth[k];
            if (SPATIAL) rest[1] = weight[k], rest[2] = along[k];
        }
    }
    return i;
}
#endif

template <int CHANNELS>
static void store_planes(const real* cells, const Planes& out, int channels) {
    const int stride = channels + 1;
    int64 i = 0;
#if defined(__GNUC__)
    if (CHANNELS && CHANNELS % 4 == 0) i = store_fours<CHANNELS & ~3>(cells, out);
#endif
    for (; i < out.count; ++i) {
        const real* cell = cells + i * stride;
        const real weight = cell[channels];
        out.weight[i] = weight;
        for (int c = 0; c < channels; ++c) {
            const int64 at = c * out.plane + i;
            out.image[at] = weight > 0 ? cell[c] / weight : out.background[out.background_full ? at : c];
        }
    }
}

// Cells become C gradients over max(weight, 1), depth and, if SPATIAL, weight and image . gradients.
template <int CHANNELS, bool SPATIAL>
static void load_planes(const GradientPlanes& in, real* cells, int channels) {
    const int stride = channels + (SPATIAL ? 3 : 1);
    int64 i = 0;
#if defined(__GNUC__)
    if (CHANNELS && CHANNELS % 4 == 0) i = load_fours<CHANNELS & ~3, SPATIAL>(in, cells);
#endif
    for (; i < in.count; ++i) {
        real* cell = cells + i * stride;
        const real weight = in.weight[i], share = weight > 1 ? weight : 1;
        real along = 0;
        for (int c = 0; c < channels; ++c) {
            cell[c] = in.grad[c * in.plane + i] / share;
            if (SPATIAL) along += in.image[c * in.plane + i] * cell[c];
        }
        cell[channels] = in.depth[i];
        if (SPATIAL) cell[channels + 1] = weight, cell[channels + 2] = along;
    }
}
