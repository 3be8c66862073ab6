// The approximate gradient of a point's position, shared by the two orders of rasterizing: by band on a CPU (bands.h),
// by point on a GPU (rasterize.cu). Source: Rückert et al. 2022, ADOP, section 4.2.
//
// A Pyramid is where the drawn images are looked up:
//   int columns(level), rows(level)
//   real change(level, x, y)   how the loss would change if the point were drawn at this pixel as well
#pragma once
#include "portable.h"

// How the loss changes if a point of depth z is drawn at a pixel with this depth and weight. gain() is the change where
// the point replaces the pixel: the sum over channels of (feature - image) times the image's gradient.
template <class Gain>
DEVICE real change_by_drawing(real z, real depth, real weight, real tolerance, const Gain& gain) {
    if (weight == 0 || z * tolerance < depth) return gain();
    if (z > depth * tolerance) return 0;
    return gain() / (weight + 1);
}

struct Slope {
    real u, v;
};

// ADOP's slope: differences between the pixels beside a ghost's; 0 within 2 pixels of a border.
template <class Pyramid>
DEVICE Slope ghost_slope(const Pyramid& pyramid, int level, int x, int y) {
    if (x < 2 || y < 2 || x >= pyramid.columns(level) - 2 || y >= pyramid.rows(level) - 2) return {0, 0};
    return {(pyramid.change(level, x + 1, y) - pyramid.change(level, x - 1, y)) / 2,
            (pyramid.change(level, x, y + 1) - pyramid.change(level, x, y - 1)) / 2};
}

// The slope of a footprint of 2 x 2 pixels around (u, v), in pixels of the level, whose bilinear weights move with it.
template <class Pyramid>
DEVICE Slope bilinear_slope(const Pyramid& pyramid, int level, real u, real v) {
    const real left = floor(u - (real)0.5), top = floor(v - (real)0.5);
    const int x = (int)left, y = (int)top;
    if (x < 0 || y < 0 || x + 1 >= pyramid.columns(level) || y + 1 >= pyramid.rows(level)) return {0, 0};
    const real part_x = u - (real)0.5 - left, part_y = v - (real)0.5 - top;
    const real top_left = pyramid.change(level, x, y), top_right = pyramid.change(level, x + 1, y);
    const real low_left = pyramid.change(level, x, y + 1), low_right = pyramid.change(level, x + 1, y + 1);
    return {(1 - part_y) * (top_right - top_left) + part_y * (low_right - low_left),
            (1 - part_x) * (low_left - top_left) + part_x * (low_right - top_right)};
}

// Sums of the slopes of all levels at which a point is drawn, by pixels of level 0.
template <class Pyramid>
DEVICE Slope sum_ghost_slopes(const Pyramid& pyramid, int levels, int x, int y) {
    Slope sum = {0, 0};
    real scale = 1;
    for (int level = 0; level < levels; ++level, scale *= (real)0.5) {
        const Slope slope = ghost_slope(pyramid, level, x >> level, y >> level);
        sum.u += scale * slope.u, sum.v += scale * slope.v;
    }
    return sum;
}
template <class Pyramid>
DEVICE Slope sum_bilinear_slopes(const Pyramid& pyramid, int levels, real u, real v) {
    Slope sum = {0, 0};
    real scale = 1;
    for (int level = 0; level < levels; ++level, scale *= (real)0.5) {
        const Slope slope = bilinear_slope(pyramid, level, u * scale, v * scale);
        sum.u += scale * slope.u, sum.v += scale * slope.v;
    }
    return sum;
}
