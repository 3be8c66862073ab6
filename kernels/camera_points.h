// The points of draw in the CPU's band order: they come from world space through a camera, and their gradients go back.
#pragma once
#include "bands.h"
#include "bands_backward.h"
#include "camera.h"

// Asks for memory that will be read soon: large clouds are read in short, scattered runs.
DEVICE void prefetch(const void* from, int64 bytes) {
    for (int64 i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)from + i);
}

static std::vector<View> load_views(const CameraArguments& camera) {
    std::vector<View> views;
    for (int64 view = 0; view < camera.views; ++view) views.push_back(load_view(camera, view));
    return views;
}

template <int MODEL, bool NORMALS, bool MOVING>
struct CameraPoints : PointSource {
    const PointArguments& points;
    const std::vector<View> views;

    explicit CameraPoints(const DrawArguments& args) : points(args.points), views(load_views(args.camera)) {}
    void prefetch_run(const Run& run) const override {
        prefetch(points.xyz + 3 * run.first, 3 * sizeof(real) * run.count);
        prefetch(points.radius + run.first, sizeof(real) * run.count);
    }
    void read_run(int64 view, const Run& run, PointBatch& batch) const override {
        const View& c = views[view];
        const real* xyz = points.xyz + 3 * run.first;
        const real* normals = NORMALS ? points.normals + 3 * run.first : nullptr;
        const real* radius = points.radius + run.first;
        const int at = batch.count;
#pragma GCC ivdep
        for (int i = 0; i < run.count; ++i) {
            const Vec3 normal = NORMALS ? load_vec3(normals, i) : Vec3{0, 0, 0};
            const Pixel pixel = project_point<MODEL, MOVING>(c, load_vec3(xyz, i), normal, radius[i]);
            batch.u[at + i] = pixel.u, batch.v[at + i] = pixel.v, batch.z[at + i] = pixel.z;
            batch.field[at + i] = pixel.field, batch.radius_px[at + i] = pixel.radius_px;
            batch.facing_away[at + i] = pixel.facing_away, batch.finite_check[at + i] = pixel.finite_check;
        }
    }
    void test_visibility(int64 view, PointBatch& batch) const override {
        const View& c = views[view];
        for (int i = 0; i < batch.count; ++i)
            batch.visible[i] = is_visible(c, {batch.u[i], batch.v[i], batch.z[i], batch.field[i], batch.radius_px[i],
                                              batch.facing_away[i], batch.finite_check[i]});
    }
};

// Calls body(source) with the source for a camera model, with or without normals and a shutter.
template <int MODEL, class Body>
static void with_camera_points(const DrawArguments& args, const Body& body) {
    const bool normals = args.points.normals != nullptr, moving = args.camera.shutter != nullptr;
    if (normals && moving) body(CameraPoints<MODEL, true, true>(args));
    else if (normals) body(CameraPoints<MODEL, true, false>(args));
    else if (moving) body(CameraPoints<MODEL, false, true>(args));
    else body(CameraPoints<MODEL, false, false>(args));
}

// The position gradients of draw go through the camera to the points and the camera's parameters.
template <int MODEL>
struct CameraGradient : PositionGradient {
    const DrawArguments& args;
    const std::vector<View> views;

    explicit CameraGradient(const DrawArguments& args) : args(args), views(load_views(args.camera)) {}
    PixelPosition position(int64 view, int point) const override {
        const View& c = views[view];
        const Vec3 p = transform(c.pose, load_vec3(args.points.xyz, point));
        const Pixel pixel = project_lens<MODEL>(c, c.shutter == nullptr ? p : at_row_time<MODEL>(c, p));
        return {pixel.u, pixel.v};
    }
    void add(int64 view, int point, Slope slope, double* sums) const override {
        real g[PARAMETERS] = {0};
        const Vec3 world = load_vec3(args.points.xyz, point);
        const Vec3 grad = project_point_backward<MODEL>(views[view], world, {slope.u, slope.v, 0}, g);
        for (int j = 0; j < PARAMETERS; ++j) sums[j] += g[j];
        real* out = args.grad_xyz + 3 * (int64)point;
        out[0] += grad.x, out[1] += grad.y, out[2] += grad.z;
    }
    void store(int64 view, int64 band, const double* sums) const override {
        real* out = args.grad_parameters + (view * count_bands(args.bands) + band) * PARAMETERS;
        for (int j = 0; j < PARAMETERS; ++j) out[j] = (real)sums[j];
    }
};
