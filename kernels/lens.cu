// Entry points that bound what a lens shows: its largest field radius, and the region that a block must touch.
//
// A lens is searched at GRID field radii, args.field. lens_limit and lens_reach take one index for each radius of each
// view and narrow limit and bounds, which the host has set to their widest. lens_bounds takes one index for each view.
#include "camera.h"

#define GRID 1024

// Positive where the distorted radius grows with r and is well defined.
template <int MODEL>
DEVICE real growth(const real* k, real r) {
    const real r2 = r * r;
    if (MODEL == OPENCV) {
        const real top = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4])),
                   slope = 2 * r2 * (k[0] + r2 * (2 * k[1] + r2 * 3 * k[4]));
        const real bottom = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])),
                   fall = 2 * r2 * (k[5] + r2 * (2 * k[6] + r2 * 3 * k[7]));
        const real value = (top + slope) * bottom - top * fall;
        return value < bottom ? value : bottom;
    }
    return 1 + r2 * (3 * k[0] + r2 * (5 * k[1] + r2 * (7 * k[2] + r2 * 9 * k[3])));
}

DEVICE real smaller(real a, real b) { return a < b ? a : b; }
DEVICE real larger(real a, real b) { return a > b ? a : b; }

// The crop in undistorted image coordinates, and its farthest corner's distance from the axis.
struct CropWindow {
    real low[2], high[2], far;
};
DEVICE CropWindow crop_window(const CameraArguments& args, int64 b) {
    const real *lens = args.intrinsics + 4 * b, *crop = args.crop + 3 * b;
    const real size[2] = {(real)args.width, (real)args.height};
    CropWindow window;
    real square = 0;
    for (int axis = 0; axis < 2; ++axis) {
        const real low = (crop[1 + axis] / crop[0] - lens[2 + axis]) / lens[axis];
        const real high = low + size[axis] / crop[0] / lens[axis], most = larger(abs(low), abs(high));
        window.low[axis] = low, window.high[axis] = high, square += most * most;
    }
    window.far = sqrt(square);
    return window;
}

// Narrows limit to the field radius up to which the distorted radius grows.
template <int MODEL>
DEVICE void lens_limit(const LensArguments& args) {
    FOR_EACH (i, args.camera.views * GRID) {
        const int64 b = i / GRID, cell = i - b * GRID;
        const real* k = args.camera.distortion + args.camera.distortion_size * b;
        real low = args.field[cell], high = args.field[cell + 1];
        if (growth<MODEL>(k, high) > 0 || (cell > 0 && !(growth<MODEL>(k, low) > 0))) continue;
        for (int step = 0; step < 20; ++step) {
            const real middle = (low + high) / 2;
            if (growth<MODEL>(k, middle) > 0) low = middle;
            else high = middle;
        }
        atomic_min(args.camera.limit + b, low);
    }
}

// Narrows bounds over the radii that the crop shows. opencv: to the least ratio of true to distorted radius, the least
// ratio of distorted to true, and 1 / (1 + the largest radius). fisheye: to 1 - the largest angle / pi.
template <int MODEL>
DEVICE void lens_reach(const LensArguments& args) {
    FOR_EACH (i, args.camera.views * GRID) {
        const int64 b = i / GRID, cell = i - b * GRID;
        const real* k = args.camera.distortion + args.camera.distortion_size * b;
        const real far = crop_window(args.camera, b).far, before = args.field[cell], r = args.field[cell + 1];
        real* out = args.camera.bounds + 4 * b;
        if (before > args.camera.limit[b]) continue;
        if (MODEL == OPENCV) {
            const real factor = radial_opencv(k, r * r).factor;
            if (!(factor > 0) || before * radial_opencv(k, before * before).factor > (real)1.1 * far) continue;
            atomic_min(out, 1 / factor), atomic_min(out + 1, factor), atomic_min(out + 2, 1 / (1 + r));
        } else {
            real derivative;
            if (r > args.camera.limit[b] || !(profile<FISHEYE>(k, r, &derivative) <= far)) continue;
            atomic_min(out, larger(1 - r / (real)3.14159265358979, 0));
        }
    }
}

// Bounds of x/z and y/z: the crop's edges times the least and the largest ratio of true to distorted radius. Tangential
// distortion moves a point by at most 3 (|p1| + |p2|) r2; where that is large, the bounds exclude nothing.
DEVICE void bound_opencv(const CropWindow& window, const real* k, real* out) {
    const real radius = 1 / out[2] - 1, least = out[0] * (real)0.999, largest = 1 / out[1] * (real)1.001;
    const real widen = 3 * (abs(k[2]) + abs(k[3])) * radius * radius;
    const bool everything = widen > (real)0.09 * window.far;
    for (int axis = 0; axis < 2; ++axis) {
        const real a = window.low[axis] - widen, b = window.high[axis] + widen;
        out[2 * axis] = everything ? (real)-1e4 : smaller(a * least, a * largest);
        out[2 * axis + 1] = everything ? (real)1e4 : larger(b * least, b * largest);
    }
}

// fisheye and ocam: the largest angle from the axis.
template <int MODEL>
DEVICE void lens_bounds(const LensArguments& args) {
    FOR_EACH (b, args.camera.views) {
        const real* k = args.camera.distortion + args.camera.distortion_size * b;
        real* out = args.camera.bounds + 4 * b;
        if (MODEL == OPENCV) bound_opencv(crop_window(args.camera, b), k, out);
        if (MODEL == FISHEYE) out[0] = (1 - out[0]) * (real)3.14159265358979 + 2 * args.field[1];
        if (MODEL == OCAM) args.camera.limit[b] = k[3], out[0] = k[3] + (real)1.57079632679;
    }
}

KERNEL(lens_limit_opencv, LensArguments) { lens_limit<OPENCV>(args); }
KERNEL(lens_limit_fisheye, LensArguments) { lens_limit<FISHEYE>(args); }
KERNEL(lens_reach_opencv, LensArguments) { lens_reach<OPENCV>(args); }
KERNEL(lens_reach_fisheye, LensArguments) { lens_reach<FISHEYE>(args); }
KERNEL(lens_bounds_opencv, LensArguments) { lens_bounds<OPENCV>(args); }
KERNEL(lens_bounds_fisheye, LensArguments) { lens_bounds<FISHEYE>(args); }
KERNEL(lens_bounds_ocam, LensArguments) { lens_bounds<OCAM>(args); }
