// Entry points of PatchMatch stereo: a plane for each pixel of a photo, along which windows of other photos look alike.
//
// A plane is the inverse depth at its pixel's centre and the changes of inverse depth per pixel along u and v: on a
// plane in space, inverse depth is linear in the pixels of a pinhole camera. So is q = A (u, v, 1) + b * inverse depth,
// whose q.x / q.z, q.y / q.z is the position in a source photo: `forward` [S, 3, 4] holds A and b, `backward` the same
// from the source's pixels to the reference's.
//
// image [H, W] and each source [h, w]: grey values in [0, 1], NaN where the photo does not count. planes [3, H, W];
// costs [H, W]: 0 for the same texture, MAX_COST for none. source_planes, each [3, h, w], or null: the planes that were
// found for the sources, with which a plane must then agree. One index is one pixel.
//
// A sweep changes the pixels of one colour of a checkerboard and reads planes and costs of the other colour alone.
// Source: PatchMatch stereo (Bleyer, Rhemann and Rother 2011), checkerboard propagation (Galliani, Lasinger and
// Schindler 2015; Xu and Tao 2019), bilaterally weighted correlation and geometric consistency (Schönberger et al.
// 2016).
#include "arguments.h"

#define WINDOW_SIDE 6  // samples along a side of the window
#define WINDOW_STEP 2  // pixels between samples
#define WINDOW_SAMPLES (WINDOW_SIDE * WINDOW_SIDE)
#define WINDOW_LANES ((WINDOW_SAMPLES + LANES - 1) / LANES * LANES)  // whole vectors: the last ones weigh nothing
#define PASS (LANES > 1 ? WINDOW_LANES : 1)                          // samples that are compared at once
#define MAX_COST ((real)2)
#define MAX_SOURCES 12
#define MAX_SOURCES_KEPT 4
#define UNLIMITED ((real)1e30)
#define SAME_PLANE ((real)1e-6)  // difference, relative to the largest possible value, that is but rounding
#define MAX_TURN ((real)0.2)     // change of a slope by a perturbation of 1, relative to the largest slope

typedef unsigned int uint32;

struct Patch {
    real value[WINDOW_LANES], weight[WINDOW_LANES], du[WINDOW_LANES], dv[WINDOW_LANES],
        weights;  // weights: their sum
};
struct Plane {
    real inverse, along_u, along_v;
};

DEVICE real sample_offset(int index) { return (real)(WINDOW_STEP * index - (WINDOW_SIDE - 1) * WINDOW_STEP / 2); }
DEVICE real clamp_to(real value, real low, real high) {
    const real raised = value > low ? value : low;  // low for NaN
    return raised < high ? raised : high;
}

// The window of the reference photo: samples of other brightness than the centre, or far from it, count less.
DEVICE void read_patch(const PatchMatchArguments& args, int x, int64 y, Patch* patch) {
    const int width = (int)args.width, height = (int)args.height;
    const real centre = args.image[y * width + x], spread = (real)args.value_spread;
    patch->weights = 0;
    ROLLED
    for (int i = 0; i < WINDOW_SAMPLES; ++i) {
        const int column = x + (int)sample_offset(i % WINDOW_SIDE), row = (int)y + (int)sample_offset(i / WINDOW_SIDE);
        const bool inside = column >= 0 && column < width && row >= 0 && row < height;
        const real value = args.image[inside ? (int64)row * width + column : y * width + x];
        const real du = sample_offset(i % WINDOW_SIDE), dv = sample_offset(i / WINDOW_SIDE);
        const real difference = (value - centre) / spread;
        const real near = 1 + (du * du + dv * dv) / (real)(4 * WINDOW_SIDE * WINDOW_SIDE);
        const real alike = 1 + difference * difference;
        const bool counts = inside && value == value;
        patch->du[i] = du, patch->dv[i] = dv;
        patch->value[i] = counts ? value : 0;
        patch->weight[i] = counts ? 1 / (near * near * alike * alike * alike * alike) : 0;
        patch->weights += patch->weight[i];
    }
    for (int i = WINDOW_SAMPLES; i < WINDOW_LANES; ++i)
        patch->value[i] = patch->weight[i] = patch->du[i] = patch->dv[i] = 0;
}

// 1 - the correlation between the window and its image in a source photo under a plane.
DEVICE real patch_cost(const PatchMatchArguments& args, const Patch& patch, int source, real u, real v, Plane plane) {
    const real* f = args.forward + 12 * source;
    const int width = (int)args.source_sizes[2 * source], height = (int)args.source_sizes[2 * source + 1];
    const real* image = args.sources[source];
    real q[3], qu[3], qv[3];
    for (int k = 0; k < 3; ++k) {
        const real* row = f + 4 * k;
        q[k] = row[0] * u + row[1] * v + row[2] + row[3] * plane.inverse;
        qu[k] = row[0] + row[3] * plane.along_u, qv[k] = row[1] + row[3] * plane.along_v;
    }
    if (!(q[2] > 0 && q[0] >= 0 && q[1] >= 0 && q[0] < width * q[2] && q[1] < height * q[2])) return MAX_COST;
    real weights = 0, a = 0, b = 0, aa = 0, bb = 0, ab = 0;
    // In three passes, since CPUs vectorise the first and the last one, and are slow to gather pixels in between.
    ROLLED
    for (int start = 0; start < WINDOW_LANES; start += PASS) {
        real right[PASS], down[PASS], weight[PASS];
        Pair upper[PASS], lower[PASS];
        int first[PASS];
        for (int i = 0; i < PASS; ++i) {
            const real du = patch.du[start + i], dv = patch.dv[start + i];
            const real z = q[2] + du * qu[2] + dv * qv[2], inverse_z = 1 / z;
            const real su = (q[0] + du * qu[0] + dv * qv[0]) * inverse_z;
            const real sv = (q[1] + du * qu[1] + dv * qv[1]) * inverse_z;
            const real x = clamp_to(su - (real)0.5, 0, (real)(width - 1) - (real)0.001);
            const real y = clamp_to(sv - (real)0.5, 0, (real)(height - 1) - (real)0.001);
            const int column = (int)x, row = (int)y;
            right[i] = x - (real)column, down[i] = y - (real)row, first[i] = row * width + column;
            weight[i] = z > 0 && su >= 0 && sv >= 0 && su < width && sv < height ? patch.weight[start + i] : 0;
        }
        for (int i = 0; i < PASS; ++i)
            upper[i] = load_pair(image + first[i]), lower[i] = load_pair(image + first[i] + width);
        SUM_LOOP(weights, a, b, aa, bb, ab)
        for (int i = 0; i < PASS; ++i) {
            const real top = upper[i].left + right[i] * (upper[i].right - upper[i].left);
            const real bottom = lower[i].left + right[i] * (lower[i].right - lower[i].left);
            const real other = top + down[i] * (bottom - top);
            const bool counts = other == other;
            const real w = counts ? weight[i] : 0, value = patch.value[start + i], second = counts ? other : 0;
            weights += w, a += w * value, b += w * second;
            aa += w * (value * value), bb += w * (second * second), ab += w * (value * second);
        }
    }
    if (!(weights > (real)args.min_seen * patch.weights)) return MAX_COST;
    a /= weights, b /= weights;
    const real variance = aa / weights - a * a, other_variance = bb / weights - b * b;
    const real least = (real)args.min_variance;
    if (!(variance > least && other_variance > least)) return MAX_COST;
    const real cost = 1 - (ab / weights - a * b) / sqrt(variance * other_variance);
    return clamp_to(cost, 0, MAX_COST);
}

// Pixels between a position and where the source's own plane there leads back to, at most args.max_shift.
DEVICE real round_trip(const PatchMatchArguments& args, int source, real u, real v, real inverse) {
    const real most = (real)args.max_shift;
    const real *f = args.forward + 12 * source, *g = args.backward + 12 * source;
    const int width = (int)args.source_sizes[2 * source], height = (int)args.source_sizes[2 * source + 1];
    const real x = f[0] * u + f[1] * v + f[2] + f[3] * inverse, y = f[4] * u + f[5] * v + f[6] + f[7] * inverse;
    const real z = f[8] * u + f[9] * v + f[10] + f[11] * inverse;
    const real su = x / z, sv = y / z;
    if (!(z > 0 && su >= 0 && sv >= 0 && su < width && sv < height)) return most;
    const int column = (int)su, row = (int)sv;
    const int64 plane = (int64)width * height, at = (int64)row * width + column;
    const real* planes = args.source_planes[source];
    const real du = su - (real)column - (real)0.5, dv = sv - (real)row - (real)0.5;
    const real own = planes[at] + du * planes[plane + at] + dv * planes[2 * plane + at];
    const real bx = g[0] * su + g[1] * sv + g[2] + g[3] * own, by = g[4] * su + g[5] * sv + g[6] + g[7] * own;
    const real bz = g[8] * su + g[9] * sv + g[10] + g[11] * own;
    const real du_back = bx / bz - u, dv_back = by / bz - v, square = du_back * du_back + dv_back * dv_back;
    return bz > 0 && square < most * most ? sqrt(square) : most;
}

// Puts a cost among the smallest, which are in order.
DEVICE void keep_smallest(real* best, real cost) {
    for (int k = 0; k < MAX_SOURCES_KEPT; ++k) {
        const real larger = best[k] < cost ? cost : best[k];
        best[k] = best[k] < cost ? best[k] : cost, cost = larger;
    }
}

DEVICE real mean_of_first(const real* best, int kept) {
    real sum = 0;
    for (int k = 0; k < MAX_SOURCES_KEPT; ++k) sum += k < kept ? best[k] : 0;
    return sum / (real)kept;
}

// The mean cost in the sources in which a plane fits best: in the others something may hide it. Where that is at least
// `most`, the result may be any number that is. What a plane costs that leads elsewhere than the sources' own ones is
// known before windows are compared, and often enough.
DEVICE real plane_cost(const PatchMatchArguments& args, const Patch& patch, int x, int64 y, Plane plane, real most) {
    const real u = (real)x + (real)0.5, v = (real)y + (real)0.5;
    const int kept = (int)args.sources_kept, count = (int)args.source_count;
    const real weight = (real)args.shift_weight, worst = MAX_COST + weight * (real)args.max_shift;
    real least[MAX_SOURCES], best[MAX_SOURCES_KEPT];
    for (int k = 0; k < MAX_SOURCES_KEPT; ++k) best[k] = worst;
    ROLLED
    for (int source = 0; source < count; ++source) {
        least[source] = args.source_planes[source] ? weight * round_trip(args, source, u, v, plane.inverse) : 0;
        keep_smallest(best, least[source]);
    }
    if (mean_of_first(best, kept) >= most) return most;
    for (int k = 0; k < MAX_SOURCES_KEPT; ++k) best[k] = worst;
    ROLLED
    for (int source = 0; source < count; ++source) {
        real last = best[0];
        for (int k = 1; k < MAX_SOURCES_KEPT; ++k) last = k < kept ? best[k] : last;
        if (least[source] < last) keep_smallest(best, least[source] + patch_cost(args, patch, source, u, v, plane));
    }
    return mean_of_first(best, kept);
}

DEVICE Plane read_plane(const PatchMatchArguments& args, int64 at) {
    const int64 size = args.width * args.height;
    return {args.planes[at], args.planes[size + at], args.planes[2 * size + at]};
}

KERNEL(patch_match_costs, PatchMatchArguments) {
    FOR_EACH (i, args.width * args.height) {
        const int64 y = i / args.width;
        const int x = (int)(i - y * args.width);
        Patch patch;
        read_patch(args, x, y, &patch);
        args.costs[i] = plane_cost(args, patch, x, y, read_plane(args, i), UNLIMITED);
    }
}

// A number of [0, 1) for each pixel, sweep and purpose (Jarzynski and Olano 2020, "pcg").
DEVICE uint32 scramble(uint32 value) {
    const uint32 state = value * 747796405u + 2891336453u;
    const uint32 word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
    return (word >> 22) ^ word;
}
DEVICE real random_of(const PatchMatchArguments& args, int64 pixel, int purpose) {
    const uint32 key = scramble(scramble((uint32)pixel) + (uint32)(args.sweep * 16 + purpose));
    return (real)(key >> 8) * (real)(1.0 / 16777216.0);
}

// Replaces the best plane by another one if that is possible and costs less.
DEVICE void attempt(const PatchMatchArguments& args, const Patch& patch, int x, int64 y, Plane plane, Plane* best,
                    real* least) {
    const real steepest = (real)args.max_slope * plane.inverse;
    const bool possible = plane.inverse >= (real)args.min_inverse && plane.inverse <= (real)args.max_inverse &&
                          abs(plane.along_u) <= steepest && abs(plane.along_v) <= steepest;
    const real alike = SAME_PLANE * plane.inverse;
    const bool same = abs(plane.inverse - best->inverse) <= alike &&
                      abs(plane.along_u - best->along_u) <= (real)args.max_slope * alike &&
                      abs(plane.along_v - best->along_v) <= (real)args.max_slope * alike;
    if (!possible || same) return;
    const real cost = plane_cost(args, patch, x, y, plane, *least);
    if (cost < *least) *least = cost, *best = plane;
}

// The pixel of least cost among some in one direction: `near` ones within a wedge, or else farther ones in line.
DEVICE int64 cheapest(const PatchMatchArguments& args, int x, int64 y, int direction, bool near) {
    const int du = direction == 0 ? 1 : direction == 1 ? -1 : 0, dv = direction == 2 ? 1 : direction == 3 ? -1 : 0;
    int64 found = -1;
    real least = 0;
    for (int i = 0; i < 5; ++i) {
        const int along = near ? 1 + (i + 1) / 2 : 3 + 2 * i, across = near ? (i & 1 ? along - 1 : 1 - along) : 0;
        const int64 column = x + du * along + dv * across, row = y + dv * along + du * across;
        if (column < 0 || column >= args.width || row < 0 || row >= args.height) continue;
        const int64 at = row * args.width + column;
        const real cost = args.costs[at];
        if (found < 0 || cost < least) found = at, least = cost;
    }
    return found;
}

KERNEL(patch_match_sweep, PatchMatchArguments) {
    const int64 size = args.width * args.height;
    FOR_EACH (i, size) {
        const int64 y = i / args.width;
        const int x = (int)(i - y * args.width);
        if (((x + y) & 1) != args.colour || args.image[i] != args.image[i]) continue;
        Patch patch;
        read_patch(args, x, y, &patch);
        Plane best = read_plane(args, i);
        real least = args.costs[i];
        ROLLED
        for (int k = 0; k < 8; ++k) {
            const int64 at = cheapest(args, x, y, k & 3, k < 4);
            if (at < 0) continue;
            Plane plane = read_plane(args, at);
            const int64 row = at / args.width;
            plane.inverse += (real)(x - (at - row * args.width)) * plane.along_u + (real)(y - row) * plane.along_v;
            attempt(args, patch, x, y, plane, &best, &least);
        }
        const real scale = (real)args.perturbation, tilt = MAX_TURN * (real)args.max_slope;
        ROLLED
        for (int k = 0; k < 3; ++k) {
            const real other = k == 1 ? 1 : 1 + scale * (2 * random_of(args, i, 3 * k) - 1);
            Plane plane = {best.inverse * other, best.along_u * other, best.along_v * other};
            if (k > 0) {
                const real turn = scale * tilt * plane.inverse;
                plane.along_u += turn * (2 * random_of(args, i, 3 * k + 1) - 1);
                plane.along_v += turn * (2 * random_of(args, i, 3 * k + 2) - 1);
            }
            attempt(args, patch, x, y, plane, &best, &least);
        }
        args.planes[i] = best.inverse, args.planes[size + i] = best.along_u, args.planes[2 * size + i] = best.along_v;
        args.costs[i] = least;
    }
}
