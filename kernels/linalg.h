// Small vectors and poses.
#pragma once
#include "portable.h"

struct Vec3 {
    real x, y, z;
};

DEVICE Vec3 load_vec3(const real* values, int64 index) {
    return {values[3 * index], values[3 * index + 1], values[3 * index + 2]};
}
// Component 0, 1 or 2; 0 beyond.
DEVICE real component(const Vec3& v, int64 index) { return index == 0 ? v.x : index == 1 ? v.y : index == 2 ? v.z : 0; }
DEVICE void add_component(Vec3& v, int64 index, real value) {
    if (index == 0) v.x += value;
    else if (index == 1) v.y += value;
    else v.z += value;
}
DEVICE real dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// The upper three rows of a pose, row by row.
struct Pose {
    real m[12];
};
DEVICE Vec3 rotate(const Pose& p, Vec3 v) {
    return {p.m[0] * v.x + p.m[1] * v.y + p.m[2] * v.z, p.m[4] * v.x + p.m[5] * v.y + p.m[6] * v.z,
            p.m[8] * v.x + p.m[9] * v.y + p.m[10] * v.z};
}
DEVICE Vec3 transform(const Pose& p, Vec3 v) {
    return {p.m[0] * v.x + p.m[1] * v.y + p.m[2] * v.z + p.m[3], p.m[4] * v.x + p.m[5] * v.y + p.m[6] * v.z + p.m[7],
            p.m[8] * v.x + p.m[9] * v.y + p.m[10] * v.z + p.m[11]};
}
DEVICE Vec3 rotate_transposed(const Pose& p, Vec3 v) {
    return {p.m[0] * v.x + p.m[4] * v.y + p.m[8] * v.z, p.m[1] * v.x + p.m[5] * v.y + p.m[9] * v.z,
            p.m[2] * v.x + p.m[6] * v.y + p.m[10] * v.z};
}
