// Entry points of project: cull blocks, project points, and the exact adjoint.
#include "camera.h"

// How many leading points of a block can be seen; 0 where it lies outside the view or below the level of detail.
// Every bound errs towards visiting.
template <int MODEL>
DEVICE int count_visited(const Arguments& args, const View& c, const real* bounds, int64 block) {
    const int64 first = block * args.block_size;
    const int size = (int)(args.points - first < args.block_size ? args.points - first : args.block_size);
    const Vec3 low = load_vec3(args.block_lower, block), high = load_vec3(args.block_upper, block);
    const Vec3 half = {(high.x - low.x) / 2, (high.y - low.y) / 2, (high.z - low.z) / 2};
    const Vec3 p = transform(c.pose, {low.x + half.x, low.y + half.y, low.z + half.z});
    const real* m = c.pose.m;
    real e[3] = {abs(m[0]) * half.x + abs(m[1]) * half.y + abs(m[2]) * half.z,
                       abs(m[4]) * half.x + abs(m[5]) * half.y + abs(m[6]) * half.z,
                       abs(m[8]) * half.x + abs(m[9]) * half.y + abs(m[10]) * half.z};
    real sway = 0;  // how far the shutter moves a point of the block
    if (c.shutter != nullptr) {
        const real* t = c.shutter;
        const real x = abs(p.x) + e[0], y = abs(p.y) + e[1], z = abs(p.z) + e[2], most = (real)0.5001;
        const real reach[3] = {most * (abs(t[0]) + abs(t[4]) * z + abs(t[5]) * y),
                               most * (abs(t[1]) + abs(t[5]) * x + abs(t[3]) * z),
                               most * (abs(t[2]) + abs(t[3]) * y + abs(t[4]) * x)};
        for (int axis = 0; axis < 3; ++axis) e[axis] += reach[axis], sway += reach[axis];
    }
    const real slack = (real)1e-5 * (abs(p.x) + abs(p.y) + abs(p.z) + e[0] + e[1] + e[2] + abs(m[3]) + abs(m[7]) + abs(m[11]));
    real nearest;
    if (MODEL == OPENCV) {
        nearest = p.z - e[2] - slack;
        if (p.z + e[2] + slack < c.near_depth) return 0;
        for (int axis = 0; axis < 2; ++axis) {
            const real centre = axis ? p.y : p.x;
            const real low_edge = bounds[2 * axis], high_edge = bounds[2 * axis + 1];
            if (centre - low_edge * p.z + e[axis] + abs(low_edge) * e[2] + slack * (1 + abs(low_edge)) < 0) return 0;
            if (high_edge * p.z - centre + e[axis] + abs(high_edge) * e[2] + slack * (1 + abs(high_edge)) < 0) return 0;
        }
    } else {
        const real distance = sqrt(dot(p, p)), reach = sqrt(dot(half, half)) + sway + slack;
        nearest = distance - reach;
        // The angle from the axis, less the half angle of the bounding sphere, compared by way of a cone.
        if (nearest > 0) {
            const real angle = atan2(sqrt(p.x * p.x + p.y * p.y), p.z);
            const real half_angle = atan2(reach, sqrt(distance * distance - reach * reach));
            if (angle - half_angle > bounds[0]) return 0;
        }
    }
    if (!(nearest > c.near_depth)) nearest = c.near_depth;
    const real least = (real)args.radius_threshold * nearest / (c.zoom * c.fx) * (real)0.9999;
    const real* steps = args.block_radius + block * STEPS;
    if (!args.block_falling[block]) return size;
    if (steps[0] < least) return 0;
    // Whole parts, by a small table that is read in order: the points themselves would each be a miss of the cache.
    const int part = (int)(args.block_size / STEPS);
    int parts = 1;
    while (parts < STEPS && steps[parts] >= least) ++parts;
    int low_end = (parts - 1) * part, high_end = parts * part < size ? parts * part : size;
    while (high_end - low_end > 16) {  // down to a line of the cache
        const int middle = (low_end + high_end) / 2;
        if (args.radius[first + middle] >= least) low_end = middle;
        else high_end = middle;
    }
    return high_end;
}

template <int MODEL>
DEVICE void cull(const Arguments& args) {
    const View c = load_view(args, args.view);
    FOR_EACH(k, args.blocks) {
        args.visit[args.view * args.blocks + k] = count_visited<MODEL>(args, c, args.bounds + 4 * args.view, k);
    }
}

template <int MODEL>
DEVICE void project_forward(const Arguments& args) {
    const View c = load_view(args, args.view);
    FOR_EACH(n, args.points) {
        const int64 i = args.view * args.points + n, block = n / args.block_size;
        Pixel pixel = {0, 0, 0, 0, 0, 0, 0};
        bool visible = args.visit == nullptr || n - block * args.block_size < args.visit[args.view * args.blocks + block];
        if (visible) {
            const Vec3 normal = args.normals != nullptr ? load_vec3(args.normals, n) : Vec3{0, 0, 0};
            const Vec3 world = load_vec3(args.xyz, n);
            pixel = c.shutter == nullptr ? project_point<MODEL, false>(c, world, normal, args.radius[n])
                                         : project_point<MODEL, true>(c, world, normal, args.radius[n]);
            visible = is_visible(c, pixel.u, pixel.v, pixel.z, pixel.field, pixel.away, pixel.zero);
        }
        args.visible[i] = visible;
        args.uv[2 * i] = visible ? pixel.u : 0;
        args.uv[2 * i + 1] = visible ? pixel.v : 0;
        args.z[i] = visible ? pixel.z : 0;
        args.radius_px[i] = visible ? pixel.radius_px : 0;
    }
}

// Adds to grad_xyz, which thread n owns, and to the view's parameters, slot by slot.
template <int MODEL>
DEVICE void project_backward(const Arguments& args) {
    const View c = load_view(args, args.view);
    real g[PARAMETERS];
#pragma unroll
    for (int j = 0; j < PARAMETERS; ++j) g[j] = 0;
    FOR_EACH(n, args.points) {
        const int64 i = args.view * args.points + n;
        if (!args.visible[i]) continue;
        const Vec3 grad = project_point_backward<MODEL>(c, load_vec3(args.xyz, n), args.grad_uv[2 * i],
                                                        args.grad_uv[2 * i + 1], args.grad_z[i], g);
        args.grad_xyz[3 * n] += grad.x, args.grad_xyz[3 * n + 1] += grad.y, args.grad_xyz[3 * n + 2] += grad.z;
    }
    real* slot = args.grad_parameters + (args.view * args.slots + SLOT(args.slots)) * PARAMETERS;
#pragma unroll
    for (int j = 0; j < PARAMETERS; ++j) atomic_add(slot + j, g[j]);
}

KERNEL(cull_opencv) { cull<OPENCV>(args); }
KERNEL(cull_fisheye) { cull<FISHEYE>(args); }
KERNEL(cull_ocam) { cull<OCAM>(args); }
KERNEL(project_forward_opencv) { project_forward<OPENCV>(args); }
KERNEL(project_forward_fisheye) { project_forward<FISHEYE>(args); }
KERNEL(project_forward_ocam) { project_forward<OCAM>(args); }
KERNEL(project_backward_opencv) { project_backward<OPENCV>(args); }
KERNEL(project_backward_fisheye) { project_backward<FISHEYE>(args); }
KERNEL(project_backward_ocam) { project_backward<OCAM>(args); }
