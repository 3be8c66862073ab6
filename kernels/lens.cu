// Entry points that look at a lens once per view: how far its field reaches, and what a block must touch to be seen.
// One index is one view; each searches a grid of GRID field radii.
#include "camera.h"

#define GRID 1024

// The k-th field radius: tan of 0 .. 89.4 degrees for opencv, an angle for fisheye.
template <int MODEL>
DEVICE real grid_radius(int k) {
    return MODEL == OPENCV ? tan((real)1.56 * k / GRID) : (real)3.14159265358979 * k / GRID;
}

// Positive where the distorted radius grows with r and is well defined.
template <int MODEL>
DEVICE real growth(const real* k, real r) {
    const real r2 = r * r;
    if (MODEL == OPENCV) {
        const real top = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4])), slope = 2 * r2 * (k[0] + r2 * (2 * k[1] + r2 * 3 * k[4]));
        const real bottom = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])), fall = 2 * r2 * (k[5] + r2 * (2 * k[6] + r2 * 3 * k[7]));
        const real value = (top + slope) * bottom - top * fall;
        return value < bottom ? value : bottom;
    }
    return 1 + r2 * (3 * k[0] + r2 * (5 * k[1] + r2 * (7 * k[2] + r2 * 9 * k[3])));
}

// The field radius up to which the distorted radius grows.
template <int MODEL>
DEVICE real find_limit(const real* k) {
    if (MODEL == OCAM) return k[3];
    for (int i = 1; i <= GRID; ++i) {
        if (growth<MODEL>(k, grid_radius<MODEL>(i)) > 0) continue;
        real low = grid_radius<MODEL>(i - 1), high = grid_radius<MODEL>(i);
        for (int step = 0; step < 20; ++step) {
            const real middle = (low + high) / 2;
            if (growth<MODEL>(k, middle) > 0) low = middle;
            else high = middle;
        }
        return low;
    }
    return MODEL == OPENCV ? (real)1e30 : (real)3.14159265358979;
}

DEVICE real smaller(real a, real b) { return a < b ? a : b; }
DEVICE real larger(real a, real b) { return a > b ? a : b; }

// Bounds of x/z and y/z: the crop's edges, undone by the least and the largest ratio of true to distorted radius.
// Tangential distortion moves a point by at most 3 (|p1| + |p2|) r2; where that is much, everything may be seen.
DEVICE void bound_opencv(const View& c, const real* low, const real* high, real far, real* out) {
    real radius = 0, least = 1, largest = 1;
    for (int i = 1; i <= GRID; ++i) {
        const real r = grid_radius<OPENCV>(i), factor = radial_opencv(c.k, r * r).factor;
        if (grid_radius<OPENCV>(i - 1) > c.limit || !(factor > 0)) break;
        radius = r, least = smaller(least, 1 / factor), largest = larger(largest, 1 / factor);
        if (r * factor > (real)1.1 * far) break;
    }
    const real widen = 3 * (abs(c.k[2]) + abs(c.k[3])) * radius * radius;
    least *= (real)0.999, largest *= (real)1.001;
    for (int axis = 0; axis < 2; ++axis) {
        const real a = low[axis] - widen, b = high[axis] + widen;
        const bool everything = widen > (real)0.09 * far;
        out[2 * axis] = everything ? (real)-1e4 : smaller(a * least, a * largest);
        out[2 * axis + 1] = everything ? (real)1e4 : larger(b * least, b * largest);
    }
}

// The largest angle from the axis.
DEVICE real bound_fisheye(const View& c, real far) {
    real angle = 0, derivative;
    for (int i = 0; i <= GRID; ++i) {
        const real t = grid_radius<FISHEYE>(i);
        if (t > c.limit) break;
        if (profile<FISHEYE>(c.k, t, &derivative) <= far) angle = t;
    }
    return angle + 2 * grid_radius<FISHEYE>(1);
}

template <int MODEL>
DEVICE void look_through(const Arguments& args) {
    FOR_EACH(b, args.views) {
        View c = load_view(args, b);
        c.limit = args.limit[b] = find_limit<MODEL>(c.k);
        real* out = args.bounds + 4 * b;
        if (MODEL == OCAM) {
            out[0] = c.limit + (real)1.57079632679;
            continue;
        }
        const real low[2] = {(c.offset_x / c.zoom - c.cx) / c.fx, (c.offset_y / c.zoom - c.cy) / c.fy};
        const real high[2] = {low[0] + c.width / c.zoom / c.fx, low[1] + c.height / c.zoom / c.fy};
        const real x = larger(abs(low[0]), abs(high[0])), y = larger(abs(low[1]), abs(high[1]));
        const real far = sqrt(x * x + y * y);
        if (MODEL == OPENCV) bound_opencv(c, low, high, far, out);
        else out[0] = bound_fisheye(c, far);
    }
}

KERNEL(lens_opencv) { look_through<OPENCV>(args); }
KERNEL(lens_fisheye) { look_through<FISHEYE>(args); }
KERNEL(lens_ocam) { look_through<OCAM>(args); }
