// Entry points of project: blocks are culled, points are projected; and the exact adjoint.
#include "camera.h"

// A block's bounding box in camera space.
struct BoundingBox {
    Vec3 half;    // half its size in world space
    Vec3 centre;  // in camera space
    real e[3];    // half its extent along the camera's axes, the shutter's motion included
    real sway;    // how far the shutter's motion moves a point of the block, at most
    real slack;   // room for rounding
};
DEVICE BoundingBox bounding_box(const View& c, Vec3 low, Vec3 high) {
    BoundingBox box;
    const Vec3 half = {(high.x - low.x) / 2, (high.y - low.y) / 2, (high.z - low.z) / 2};
    const Vec3 p = transform(c.pose, {low.x + half.x, low.y + half.y, low.z + half.z});
    const real* m = c.pose.m;
    real e[3] = {abs(m[0]) * half.x + abs(m[1]) * half.y + abs(m[2]) * half.z,
                 abs(m[4]) * half.x + abs(m[5]) * half.y + abs(m[6]) * half.z,
                 abs(m[8]) * half.x + abs(m[9]) * half.y + abs(m[10]) * half.z};
    real sway = 0;
    if (c.shutter != nullptr) {
        const real* t = c.shutter;
        const real x = abs(p.x) + e[0], y = abs(p.y) + e[1], z = abs(p.z) + e[2], most = (real)0.5001;
        const real reach[3] = {most * (abs(t[0]) + abs(t[4]) * z + abs(t[5]) * y),
                               most * (abs(t[1]) + abs(t[5]) * x + abs(t[3]) * z),
                               most * (abs(t[2]) + abs(t[3]) * y + abs(t[4]) * x)};
        for (int axis = 0; axis < 3; ++axis) e[axis] += reach[axis], sway += reach[axis];
    }
    const real slack =
        (real)1e-5 * (abs(p.x) + abs(p.y) + abs(p.z) + e[0] + e[1] + e[2] + abs(m[3]) + abs(m[7]) + abs(m[11]));
    box.half = half, box.centre = p, box.sway = sway, box.slack = slack;
    for (int axis = 0; axis < 3; ++axis) box.e[axis] = e[axis];
    return box;
}

// Whether a box may be in view, and the least depth that a visible point of it may have. Every bound errs towards
// visiting.
template <int MODEL>
DEVICE bool may_be_visible(const View& c, const real* bounds, const BoundingBox& box, real* least_depth) {
    const Vec3 p = box.centre;
    const real *e = box.e, slack = box.slack;
    real nearest;
    if (MODEL == OPENCV) {
        nearest = p.z - e[2] - slack;
        if (p.z + e[2] + slack < c.near_depth) return false;
        for (int axis = 0; axis < 2; ++axis) {
            const real centre = axis ? p.y : p.x;
            const real low_edge = bounds[2 * axis], high_edge = bounds[2 * axis + 1];
            if (centre - low_edge * p.z + e[axis] + abs(low_edge) * e[2] + slack * (1 + abs(low_edge)) < 0)
                return false;
            if (high_edge * p.z - centre + e[axis] + abs(high_edge) * e[2] + slack * (1 + abs(high_edge)) < 0)
                return false;
        }
    } else {
        const real distance = sqrt(dot(p, p)), reach = sqrt(dot(box.half, box.half)) + box.sway + slack;
        nearest = distance - reach;
        // The bounding sphere lies outside the lens's cone where the angle of its centre, less its half angle, is
        // larger.
        if (nearest > 0) {
            const real angle = atan2(sqrt(p.x * p.x + p.y * p.y), p.z);
            const real half_angle = atan2(reach, sqrt(distance * distance - reach * reach));
            if (angle - half_angle > bounds[0]) return false;
        }
    }
    *least_depth = nearest > c.near_depth ? nearest : c.near_depth;
    return true;
}

// How many leading points of a block can be seen; 0 where it lies outside the view or below the level of detail.
template <int MODEL>
DEVICE int count_visited(const CullArguments& args, const View& c, int64 block) {
    const int64 first = block * args.blocks.block_size, rest = args.blocks.points - first;
    const int size = (int)(rest < args.blocks.block_size ? rest : args.blocks.block_size);
    const BoundingBox box = bounding_box(c, load_vec3(args.block_lower, block), load_vec3(args.block_upper, block));
    real nearest;
    if (!may_be_visible<MODEL>(c, args.camera.bounds + 4 * args.view, box, &nearest)) return 0;
    const real least = (real)args.radius_threshold * nearest / (c.zoom * c.fx) * (real)0.9999;
    const real* steps = args.block_radius + block * BLOCK_STEPS;
    if (!args.block_falling[block]) return size;
    if (steps[0] < least) return 0;
    // Whole parts first, by a small table that is read in order: each of the points would be a cache miss.
    const int part = (int)(args.blocks.block_size / BLOCK_STEPS);
    int parts = 1;
    while (parts < BLOCK_STEPS && steps[parts] >= least) ++parts;
    int low_end = (parts - 1) * part, high_end = parts * part < size ? parts * part : size;
    while (args.radius != nullptr && high_end - low_end > 16) {  // down to one cache line
        const int middle = (low_end + high_end) / 2;
        if (args.radius[first + middle] >= least) low_end = middle;
        else high_end = middle;
    }
    return high_end;
}

template <int MODEL>
DEVICE void cull(const CullArguments& args) {
    const View c = load_view(args.camera, args.view);
    FOR_EACH (k, args.blocks.blocks) {
        args.blocks.visit[args.view * args.blocks.blocks + k] = count_visited<MODEL>(args, c, k);
    }
}

template <int MODEL>
DEVICE void project_forward(const ProjectArguments& args) {
    const View c = load_view(args.camera, args.view);
    FOR_EACH (n, args.blocks.points) {
        const int64 i = args.view * args.blocks.points + n, block = n / args.blocks.block_size;
        Pixel pixel = {0, 0, 0, 0, 0, 0, 0};
        const int* visit = args.blocks.visit;
        bool visible =
            visit == nullptr || n - block * args.blocks.block_size < visit[args.view * args.blocks.blocks + block];
        if (visible) {
            const Vec3 normal = args.points.normals != nullptr ? load_vec3(args.points.normals, n) : Vec3{0, 0, 0};
            const Vec3 world = load_vec3(args.points.xyz, n);
            pixel = c.shutter == nullptr ? project_point<MODEL, false>(c, world, normal, args.points.radius[n])
                                         : project_point<MODEL, true>(c, world, normal, args.points.radius[n]);
            visible = is_visible(c, pixel);
        }
        args.projected.visible[i] = visible;
        args.projected.uv[2 * i] = visible ? pixel.u : 0;
        args.projected.uv[2 * i + 1] = visible ? pixel.v : 0;
        args.projected.z[i] = visible ? pixel.z : 0;
        args.projected.radius_px[i] = visible ? pixel.radius_px : 0;
    }
}

// Adds to grad_xyz, whose row n belongs to index n, and to the view's grad_parameters, slot by slot.
template <int MODEL>
DEVICE void project_backward(const ProjectArguments& args) {
    const View c = load_view(args.camera, args.view);
    real g[PARAMETERS];
#pragma unroll
    for (int j = 0; j < PARAMETERS; ++j) g[j] = 0;
    FOR_EACH (n, args.blocks.points) {
        const int64 i = args.view * args.blocks.points + n;
        if (!args.projected.visible[i]) continue;
        const PixelGradients grads = {args.grad_uv[2 * i], args.grad_uv[2 * i + 1], args.grad_z[i]};
        const Vec3 grad = project_point_backward<MODEL>(c, load_vec3(args.points.xyz, n), grads, g);
        args.grad_xyz[3 * n] += grad.x, args.grad_xyz[3 * n + 1] += grad.y, args.grad_xyz[3 * n + 2] += grad.z;
    }
    real* slot = args.grad_parameters + (args.view * args.slots + SLOT(args.slots)) * PARAMETERS;
#pragma unroll
    for (int j = 0; j < PARAMETERS; ++j) atomic_add(slot + j, g[j]);
}

KERNEL(cull_opencv, CullArguments) { cull<OPENCV>(args); }
KERNEL(cull_fisheye, CullArguments) { cull<FISHEYE>(args); }
KERNEL(cull_ocam, CullArguments) { cull<OCAM>(args); }
KERNEL(project_forward_opencv, ProjectArguments) { project_forward<OPENCV>(args); }
KERNEL(project_forward_fisheye, ProjectArguments) { project_forward<FISHEYE>(args); }
KERNEL(project_forward_ocam, ProjectArguments) { project_forward<OCAM>(args); }
KERNEL(project_backward_opencv, ProjectArguments) { project_backward<OPENCV>(args); }
KERNEL(project_backward_fisheye, ProjectArguments) { project_backward<FISHEYE>(args); }
KERNEL(project_backward_ocam, ProjectArguments) { project_backward<OCAM>(args); }
