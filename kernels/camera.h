// The camera models, each beside its Jacobian.
#pragma once
#include "arguments.h"
#include "linalg.h"

struct View {
    Pose pose;
    real fx, fy, cx, cy, zoom, offset_x, offset_y, limit, width, height, near_depth;
    real k[20];
    const real* shutter;  // [7], or null where all rows are exposed at once
};

struct Pixel {
    real u, v, z, field;  // crop pixels, depth, field radius
    real radius_px;       // level-of-detail radius at level 0
    real facing_away;     // positive where the point's normal faces away from the camera
    real finite_check;    // 0 where all coordinates and the radius are finite, else NaN
};

DEVICE View load_view(const CameraArguments& args, int64 b) {
    View view;
    for (int i = 0; i < 12; ++i) view.pose.m[i] = args.world_to_camera[16 * b + i];
    const real* k = args.intrinsics + 4 * b;
    view.fx = k[0], view.fy = k[1], view.cx = k[2], view.cy = k[3];
    const real* crop = args.crop + 3 * b;
    view.zoom = crop[0], view.offset_x = crop[1], view.offset_y = crop[2];
    view.shutter = args.shutter == nullptr ? nullptr : args.shutter + 7 * b;
    view.limit = args.limit[b];
    view.width = (real)args.width, view.height = (real)args.height, view.near_depth = (real)args.near_depth;
    const int size = (int)args.distortion_size;
#pragma unroll
    for (int i = 0; i < 20; ++i) view.k[i] = i < size ? args.distortion[size * b + i] : 0;
    return view;
}

// The rational radial factor and its derivative by r2; k in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6.
struct Radial {
    real top, bottom, factor, change;
};
DEVICE Radial radial_opencv(const real* k, real r2) {
    Radial r;
    r.top = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]));
    r.bottom = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]));
    r.factor = r.top / r.bottom;
    const real slope = k[0] + r2 * (2 * k[1] + r2 * 3 * k[4]), fall = k[5] + r2 * (2 * k[6] + r2 * 3 * k[7]);
    r.change = 2 * (slope * r.bottom - r.top * fall) / (r.bottom * r.bottom);
    return r;
}

// The radius of an angle and its derivative: fisheye's odd polynomial or ocam's table polynomial.
template <int MODEL>
DEVICE real profile(const real* k, real t, real* derivative) {
    if (MODEL == FISHEYE) {
        const real t2 = t * t;
        *derivative = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])));
        return t * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))));
    }
    real total = k[19], slope = 0;
#pragma unroll
    for (int i = 18; i >= 4; --i) {
        slope = slope * t + total;
        total = total * t + k[i];
    }
    *derivative = slope;
    return total;
}

template <int MODEL>
DEVICE real field_angle(real planar, real z) {
    return MODEL == FISHEYE ? atan2(planar, z) : atan2(-z, planar);
}

// Camera space to the crop's pixels.
template <int MODEL>
DEVICE Pixel project_lens(const View& c, Vec3 p) {
    real u, v;
    Pixel pixel;
    if (MODEL == OPENCV) {
        const real x = p.x / p.z, y = p.y / p.z, r2 = x * x + y * y, xy = x * y;
        const real* k = c.k;
        const real radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])));
        const real dx = x * radial + 2 * k[2] * xy + k[3] * (r2 + 2 * (x * x));
        const real dy = y * radial + k[2] * (r2 + 2 * (y * y)) + 2 * k[3] * xy;
        u = c.fx * dx + c.cx, v = c.fy * dy + c.cy;
        pixel.z = p.z, pixel.field = sqrt(r2);
    } else {
        const real square = p.x * p.x + p.y * p.y, least = (real)1e-18;
        const real planar = sqrt(square > least ? square : least);
        pixel.z = sqrt(square + p.z * p.z);
        pixel.field = field_angle<MODEL>(planar, p.z);
        real derivative;
        const real scale = profile<MODEL>(c.k, pixel.field, &derivative) / planar;
        if (MODEL == FISHEYE) {
            u = c.fx * (scale * p.x) + c.cx, v = c.fy * (scale * p.y) + c.cy;
        } else {
            const real row = scale * p.y, column = scale * p.x;
            u = c.k[2] * row + column + c.cx, v = c.k[0] * row + c.k[1] * column + c.cy;
        }
    }
    pixel.u = c.zoom * u - c.offset_x, pixel.v = c.zoom * v - c.offset_y;
    return pixel;
}

// The time at which a still camera would read out a point's row: from -1/2 (the first row) to 1/2 (the last).
template <int MODEL>
DEVICE real row_time(const View& c, Vec3 p) {
    const real row = (project_lens<MODEL>(c, p).v + c.offset_y) / c.zoom, half = (real)0.5;
    const real time = row / c.shutter[6] - half;
    return time < -half ? -half : time > half ? half : time;
}
// The position of a camera-space point at a time of the camera's motion.
DEVICE Vec3 move_point(const real* m, Vec3 p, real time) {
    return {p.x + time * (m[0] + (m[4] * p.z - m[5] * p.y)), p.y + time * (m[1] + (m[5] * p.x - m[3] * p.z)),
            p.z + time * (m[2] + (m[3] * p.y - m[4] * p.x))};
}
template <int MODEL>
DEVICE Vec3 at_row_time(const View& c, Vec3 p) {
    return move_point(c.shutter, p, row_time<MODEL>(c, p));
}

// World to the crop's pixels. MOVING: there is a shutter. Whether a point faces away is judged without the motion.
template <int MODEL, bool MOVING>
DEVICE Pixel project_point(const View& c, Vec3 world, Vec3 normal, real radius) {
    const Vec3 p = transform(c.pose, world);
    Pixel pixel = project_lens<MODEL>(c, MOVING ? at_row_time<MODEL>(c, p) : p);
    pixel.radius_px = c.zoom * c.fx * radius / pixel.z;
    pixel.facing_away = dot(rotate(c.pose, normal), p);
    pixel.finite_check = (world.x + world.y + world.z + radius) * 0;
    return pixel;
}

// Free of branches, so that a CPU can vectorise it. NaN anywhere makes a point invisible.
DEVICE int is_visible(const View& c, const Pixel& p) {
    return (p.z >= c.near_depth ? 1 : 0) & (p.u >= 0 ? 1 : 0) & (p.v >= 0 ? 1 : 0) & (p.u < c.width ? 1 : 0) &
           (p.v < c.height ? 1 : 0) & (p.field <= c.limit ? 1 : 0) & (p.facing_away <= 0 ? 1 : 0) &
           (p.finite_check == 0 ? 1 : 0);
}

// The gradients of a pixel and its depth.
struct PixelGradients {
    real u, v, z;
};

// The adjoints of project_lens: add the lens's gradient to `g` [PARAMETERS] and return that of the camera-space point.
DEVICE Vec3 opencv_backward(const View& c, Vec3 p, const PixelGradients& grad, real* g) {
    const real* k = c.k;
    const real gu = c.zoom * grad.u, gv = c.zoom * grad.v;
    g[14] += gu, g[15] += gv;
    const real x = p.x / p.z, y = p.y / p.z, r2 = x * x + y * y, xy = x * y;
    const Radial r = radial_opencv(k, r2);
    const real bend_x = r2 + 2 * (x * x), bend_y = r2 + 2 * (y * y);
    g[12] += gu * (x * r.factor + 2 * k[2] * xy + k[3] * bend_x);
    g[13] += gv * (y * r.factor + k[2] * bend_y + 2 * k[3] * xy);
    const real gx = gu * c.fx, gy = gv * c.fy;
    const real along = (gx * x + gy * y) / r.bottom, back = -along * r.factor;
    g[16] += along * r2, g[17] += along * r2 * r2, g[20] += along * r2 * r2 * r2;
    g[18] += gx * 2 * xy + gy * bend_y, g[19] += gx * bend_x + gy * 2 * xy;
    g[21] += back * r2, g[22] += back * r2 * r2, g[23] += back * r2 * r2 * r2;
    const real a = r.factor + x * x * r.change + 2 * k[2] * y + 6 * k[3] * x;
    const real b = xy * r.change + 2 * k[2] * x + 2 * k[3] * y;
    const real d = r.factor + y * y * r.change + 6 * k[2] * y + 2 * k[3] * x;
    const real sx = gx * a + gy * b, sy = gx * b + gy * d;
    return {sx / p.z, sy / p.z, grad.z - (sx * x + sy * y) / p.z};
}
template <int MODEL>
DEVICE Vec3 polynomial_backward(const View& c, Vec3 p, const PixelGradients& grad, real* g) {
    const real* k = c.k;
    const real gu = c.zoom * grad.u, gv = c.zoom * grad.v;
    g[14] += gu, g[15] += gv;
    const real square = p.x * p.x + p.y * p.y, least = (real)1e-18;
    const real planar = sqrt(square > least ? square : least), distance = sqrt(square + p.z * p.z);
    const real t = field_angle<MODEL>(planar, p.z);
    real derivative;
    const real radius = profile<MODEL>(k, t, &derivative), scale = radius / planar;
    real gx, gy;
    if (MODEL == FISHEYE) {
        g[12] += gu * scale * p.x, g[13] += gv * scale * p.y;
        gx = gu * c.fx, gy = gv * c.fy;
    } else {
        const real row = scale * p.y, column = scale * p.x;
        g[16] += gv * row, g[17] += gv * column, g[18] += gu * row;
        gx = gu + gv * k[1], gy = gu * k[2] + gv * k[0];
    }
    const real along = gx * p.x + gy * p.y;
    real power = along / planar;
    if (MODEL == FISHEYE) {
        power *= t;
#pragma unroll
        for (int i = 0; i < 4; ++i) power *= t * t, g[16 + i] += power;
    } else {
#pragma unroll
        for (int i = 4; i < 20; ++i) g[16 + i] += power, power *= t;
    }
    const real turn = derivative / (distance * distance);
    const real inner = square > least ? along * ((turn * p.z - scale) / planar) / planar : 0;
    const real outward = grad.z / distance;
    return {gx * scale + p.x * (inner + outward), gy * scale + p.y * (inner + outward), p.z * outward - along * turn};
}

// Adds the camera's gradient to `g` [PARAMETERS] and returns that of the world point. The time at which a point's row
// is read out counts as a constant; the motion has no gradient.
template <int MODEL>
DEVICE Vec3 project_point_backward(const View& c, Vec3 world, const PixelGradients& grad, real* g) {
    Vec3 p = transform(c.pose, world);
    real time = 0;
    if (c.shutter != nullptr) time = row_time<MODEL>(c, p), p = move_point(c.shutter, p, time);
    Vec3 h = MODEL == OPENCV ? opencv_backward(c, p, grad, g) : polynomial_backward<MODEL>(c, p, grad, g);
    if (c.shutter != nullptr) {
        const real* m = c.shutter;
        h = {h.x - time * (m[4] * h.z - m[5] * h.y), h.y - time * (m[5] * h.x - m[3] * h.z),
             h.z - time * (m[3] * h.y - m[4] * h.x)};
    }
    const real hs[3] = {h.x, h.y, h.z};
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        g[4 * i] += hs[i] * world.x, g[4 * i + 1] += hs[i] * world.y, g[4 * i + 2] += hs[i] * world.z;
        g[4 * i + 3] += hs[i];
    }
    return rotate_transposed(c.pose, h);
}
