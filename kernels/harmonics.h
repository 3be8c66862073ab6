// View-dependent colours: the first three channels of a feature change with the direction from which a point is seen,
// by spherical harmonics of the first order, which are linear in the direction. Source: Ramamoorthi and Hanrahan 2001.
//
// Behind its C channels, the row of a point's features then has three coefficients (x, y, z) for each of three
// channels.
#pragma once
#include "arguments.h"
#include "linalg.h"

// The unit vector from a view's camera to a point.
DEVICE Vec3 direction_to(const PyramidArguments& pyramid, int64 view, int64 point) {
    const Vec3 p = load_vec3(pyramid.xyz, point), c = load_vec3(pyramid.centres, view);
    const Vec3 d = {p.x - c.x, p.y - c.y, p.z - c.z};
    const real length = sqrt(dot(d, d)), scale = length > 0 ? 1 / length : 0;
    return {d.x * scale, d.y * scale, d.z * scale};
}

// What the harmonics add to the first three channels of a point's feature in a view; 0 where features have none.
DEVICE Vec3 harmonic_change(const PyramidArguments& pyramid, int64 view, int64 point) {
    if (pyramid.xyz == nullptr) return {0, 0, 0};
    const Vec3 d = direction_to(pyramid, view, point);
    const real* coefficients = pyramid.features + point * pyramid.row + pyramid.channels;
    return {dot(load_vec3(coefficients, 0), d), dot(load_vec3(coefficients, 1), d), dot(load_vec3(coefficients, 2), d)};
}

// Adds the coefficients' gradient to a row of the features' gradient, from that of the first three channels in a view.
DEVICE void add_harmonic_gradient(const PyramidArguments& pyramid, int64 view, int64 point, Vec3 grad, real* row) {
    if (pyramid.xyz == nullptr) return;
    const Vec3 d = direction_to(pyramid, view, point);
    real* out = row + pyramid.channels;
    out[0] += grad.x * d.x, out[1] += grad.x * d.y, out[2] += grad.x * d.z;
    out[3] += grad.y * d.x, out[4] += grad.y * d.y, out[5] += grad.y * d.z;
    out[6] += grad.z * d.x, out[7] += grad.z * d.y, out[8] += grad.z * d.z;
}
