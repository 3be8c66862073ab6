// Runs every entry point of the CPU library on four threads over a random scene, for the sanitizers to watch.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "cpu.cpp"

static std::mt19937 engine(1);
static real uniform(double low, double high) { return (real)std::uniform_real_distribution<double>(low, high)(engine); }

struct Scene {
    static const int V = 2, N = 6000, C = 4, L = 4, W = 101, H = 67, B = 64;
    std::vector<real> pose, intrinsics, distortion, crop, shutter, reach, xyz, radius, normals, features, background;
    std::vector<real> lower, upper, steps, uv, z, radius_px, grad_features, grad_uv, grad_z, grad_xyz, parameters;
    std::vector<real> image[L], weight[L], depth[L], grad[L];
    std::vector<byte> falling, visible, ghosts, hits;
    std::vector<int> visit;
    std::vector<int64> offsets;
    Arguments a = Arguments();

    void fill_cameras(int size) {
        for (int v = 0; v < V; ++v) {
            const real rows[16] = {1, 0, 0, (real)(0.1 * v), 0, 1, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1};
            pose.insert(pose.end(), rows, rows + 16);
            for (real k : {90.0, 91.0, W / 2.0, H / 2.0}) intrinsics.push_back((real)k);
            for (int i = 0; i < size; ++i) distortion.push_back(uniform(-0.01, 0.01));
            if (size == 20) distortion[20 * v] = 1, distortion[20 * v + 3] = 1, distortion[20 * v + 4] = 141, distortion[20 * v + 5] = 90;
            for (real k : {1.0, 0.0, 0.0}) crop.push_back((real)k);
            for (double k : {0.1, -0.1, 0.05, 0.02, 0.03, -0.02, (double)H}) shutter.push_back((real)k);
        }
        reach.assign(5 * V, 1);  // bounds at their widest
        std::fill(reach.begin(), reach.begin() + V, (real)1e30);  // and limits
    }
    void fill_points() {
        const int blocks = (N + B - 1) / B;
        for (int i = 0; i < N; ++i) {
            for (int axis = 0; axis < 3; ++axis) xyz.push_back(uniform(-2, 2)), normals.push_back(uniform(-1, 1));
            radius.push_back((real)(0.2 * (B - i % B) / B));
            for (int c = 0; c < C; ++c) features.push_back(uniform(0, 1));
        }
        xyz[5] = std::numeric_limits<real>::quiet_NaN(), xyz[100] = std::numeric_limits<real>::infinity();
        lower.assign(3 * blocks, -2), upper.assign(3 * blocks, 2), falling.assign(blocks, 1);
        for (int k = 0; k < blocks; ++k)
            for (int s = 0; s < STEPS; ++s) {
                const int at = k * B + s * B / STEPS;
                steps.push_back(at < N ? radius[at] : -1);
            }
        for (int i = 0; i < V * N; ++i) ghosts.push_back(uniform(0, 1) < 0.3);
        background.assign(C, (real)0.5), visit.assign(V * blocks, 0);
        uv.assign(2 * V * N, 0), z.assign(V * N, 0), radius_px.assign(V * N, 0), visible.assign(V * N, 0);
        grad_features.assign(N * C, 0), grad_uv.assign(2 * V * N, 0), grad_z.assign(V * N, 0), grad_xyz.assign(3 * N, 0);
        parameters.assign(V * 64 * PARAMETERS, 0), hits.assign(V * N * sizeof(Hit), 0);
    }
    void fill_arguments(int size) {
        a.world_to_camera = pose.data(), a.intrinsics = intrinsics.data(), a.distortion = distortion.data();
        a.crop = crop.data(), a.limit = reach.data(), a.bounds = reach.data() + V;
        a.views = V, a.width = W, a.height = H, a.distortion_size = size, a.near_depth = 0.01;
        a.xyz = xyz.data(), a.radius = radius.data(), a.normals = normals.data(), a.block_lower = lower.data();
        a.block_upper = upper.data(), a.block_radius = steps.data(), a.block_falling = falling.data();
        a.visit = visit.data(), a.points = N, a.block_size = B, a.blocks = (N + B - 1) / B;
        a.uv = uv.data(), a.z = z.data(), a.radius_px = radius_px.data(), a.visible = visible.data();
        a.features = features.data(), a.ghosts = ghosts.data(), a.channels = C, a.levels = L;
        a.depth_tolerance = 0.01, a.radius_threshold = 0.6;
        for (int l = 0; l < L; ++l) {
            const int plane = ((W + (1 << l) - 1) >> l) * ((H + (1 << l) - 1) >> l);
            image[l].assign(V * C * plane, 0), weight[l].assign(V * plane, 0), grad[l].assign(V * C * plane, 1);
            depth[l].assign(V * plane, std::numeric_limits<real>::infinity());
            a.image[l] = image[l].data(), a.weight[l] = weight[l].data(), a.depth[l] = depth[l].data();
            a.background[l] = background.data(), a.grad_image[l] = grad[l].data();
        }
        a.grad_features = grad_features.data(), a.grad_uv = grad_uv.data(), a.grad_z = grad_z.data();
        a.grad_xyz = grad_xyz.data(), a.grad_parameters = parameters.data(), a.slots = 64;
        a.band_rows = 16, a.chunks = a.blocks / 16 + 1, a.hits = hits.data();
        offsets.assign(V * (count_bins(a) + 1) * a.chunks, 0), a.offsets = offsets.data();
    }
};

// The kernels that work on pictures, over the pyramid of a scene.
struct Pictures {
    Scene& s;
    Arguments a;
    std::vector<std::vector<real>> kept;
    std::vector<real> window = std::vector<real>(11, (real)(1 / 11.0));

    explicit Pictures(Scene& scene) : s(scene), a(scene.a) {}
    real* room(int64 count, double value = 0) {
        kept.emplace_back((size_t)count, (real)value);
        return kept.back().data();
    }
    int64 plane(int level) const { return (int64)((s.W + (1 << level) - 1) >> level) * ((s.H + (1 << level) - 1) >> level); }
    int64 wide(int level, int other) const { return (int64)((s.H + (1 << level) - 1) >> level) * ((s.W + (1 << other) - 1) >> other); }

    void show_behind(int threads) {
        a.ray_rows = 5, a.ray_columns = 7, a.rays = room(s.V * 3 * 35, 1), a.photo_size = room(2 * s.V, 100);
        a.texels = room(16 * 32 * s.C, 1), a.grad_texels = room(16 * 32 * s.C);
        for (a.level = 0; a.level < s.L; ++a.level) {
            a.blur = a.level / 2, a.map_rows = 16 >> a.blur, a.map_columns = 32 >> a.blur;
            a.shown[a.level] = room(s.V * s.C * plane(a.level)), a.coordinates[a.level] = room(s.V * 2 * plane(a.level));
            a.grad_shown[a.level] = room(s.V * s.C * plane(a.level));
            for (a.view = 0; a.view < s.V; ++a.view) launch_behind_forward(&a, plane(a.level), threads);
            for (a.view = 0; a.view < s.V; ++a.view) launch_behind_backward(&a, plane(a.level), 1);
        }
    }
    void fill(int threads, bool background) {
        a.fill_levels = 3, a.occlusion_levels = 2, a.occlusion_tolerance = 0.05;
        for (int l = 0; l < s.L; ++l) {
            for (real** out : {&a.valid[l], &a.behind[l], &a.surface[l]}) *out = room(s.V * plane(l));
            for (real** out : {&a.colours[l], &a.passed[l]}) *out = room(s.V * 3 * plane(l));
            a.grad_colours[l] = room(s.V * 3 * plane(l), 1), a.background[l] = background ? room(s.V * 3 * plane(l), 1) : nullptr;
            a.grad_behind[l] = background ? room(s.V * 3 * plane(l)) : nullptr, a.grad_shown[l] = room(s.V * s.C * plane(l));
            const int columns = (s.W + (1 << l) - 1) >> l, rows = (s.H + (1 << l) - 1) >> l;
            a.padded[l] = room(s.V * (int64)(columns + 4) * (rows + 4), 2);
        }
        for (a.level = s.L - 1; a.level >= 0; --a.level) {
            const int l = (int)a.level;
            launch_base_surface(&a, s.V * plane(l), threads);
            a.half_way[l] = room(s.V * 3 * wide(l, l + 1));
            if (l + 1 < a.fill_levels) launch_base_upsample(&a, s.V * 3 * wide(l, l + 1), threads);
            launch_base_colours(&a, s.V * plane(l), threads);
        }
        for (a.level = 0; a.level < s.L; ++a.level) {
            const int l = (int)a.level;
            a.half_way[l] = l ? room(s.V * 3 * wide(l, l - 1)) : nullptr;
            if (l > 0 && l < a.fill_levels) launch_base_gather(&a, s.V * 3 * wide(l, l - 1), threads);
            launch_base_backward(&a, s.V * plane(l), threads);
        }
    }
    void photograph(int threads) {
        const int64 count = plane(0);
        a.radiance = room(s.V * 3 * count, 0.4), a.photo = room(s.V * 3 * count), a.grad_photo = room(s.V * 3 * count, 1);
        a.grad_radiance = room(s.V * 3 * count), a.places = room(s.V * 3 * count), a.slopes = room(s.V * 3 * count);
        a.gain = room(s.V * 3, 1), a.curve = room(s.V * 3 * 25, 0.5), a.vignette = room(s.V * 5, 0.01);
        a.samples = 25, a.leak = 0.01, a.sums = room(s.V * s.a.slots * 83);
        for (a.view = 0; a.view < s.V; ++a.view) launch_photo_forward(&a, count, threads), launch_photo_backward(&a, count, threads);
    }
    void compare(int threads) {
        const int64 count = plane(0), padded = (int64)(s.W + 20) * (s.H + 20);
        a.picture = a.photo, a.target = a.radiance, a.mask = room(s.V * count, 1), a.window = window.data();
        a.grey = room(s.V * 2 * count), a.row_sums = room(s.V * 5 * count), a.partial = room(s.V * 4 * padded);
        a.row_partial = room(s.V * 3 * (int64)(s.W + 20) * s.H), a.grad_sums = room(s.V * 3, 1), a.grad_picture = room(s.V * 3 * count);
        a.stable1 = 1e-4, a.stable2 = 9e-4, a.sums = room(s.V * s.a.slots * 4);
        for (a.view = 0; a.view < s.V; ++a.view) {
            launch_compare_pixels(&a, count, threads), launch_compare_rows(&a, (int64)(s.W - 10) * s.H, threads);
            launch_compare_columns(&a, (int64)(s.W - 10) * (s.H - 10), threads);
            launch_compare_columns_backward(&a, (int64)(s.W + 20) * s.H, threads);
            launch_compare_rows_backward(&a, count, threads);
        }
    }
};

typedef void (*Launch)(const Arguments*, int64, int);

static double run(bool moving, int size, Launch limit, Launch reach, Launch bounds, Launch cull, Launch forward, Launch backward,
                  Launch draw, Launch adjoint) {
    Scene s;
    s.fill_cameras(size), s.fill_points(), s.fill_arguments(size);
    if (moving) s.a.shutter = s.shutter.data();
    const int threads = 4;
    std::vector<real> field(1025);
    for (int i = 0; i < 1025; ++i) field[i] = (real)(0.003 * i);
    s.a.field = field.data();
    if (limit) limit(&s.a, s.V * 1024, threads), reach(&s.a, s.V * 1024, threads);
    bounds(&s.a, s.V, threads);
    for (s.a.view = 0; s.a.view < s.V; ++s.a.view) cull(&s.a, s.a.blocks, threads), forward(&s.a, s.N, threads);
    launch_raster_depth(&s.a, s.V * s.N, threads), launch_raster_blend(&s.a, s.V * s.N, threads);
    for (s.a.level = 0; s.a.level < s.L; ++s.a.level)
        launch_raster_normalise(&s.a, (int64)s.weight[s.a.level].size(), threads);
    launch_raster_backward_features(&s.a, s.N, threads), launch_raster_backward_uv(&s.a, s.V * s.N, threads);
    for (s.a.view = 0; s.a.view < s.V; ++s.a.view) backward(&s.a, s.N, threads);
    double total = 0;
    for (real w : s.weight[0]) total += w;
    draw(&s.a, 0, threads);
    double again = 0;
    for (real w : s.weight[0]) again += w;
    s.a.bilinear = 1;
    launch_raster_backward_uv(&s.a, s.V * s.N, threads), launch_bands_backward(&s.a, 0, threads);
    s.a.grad_uv = nullptr;
    for (s.a.bilinear = 0; s.a.bilinear < 2; ++s.a.bilinear) adjoint(&s.a, 0, threads);
    std::vector<int> steps(s.N, 0);
    std::vector<real> average(s.N * s.C, 0), square(s.N * s.C, 0);
    s.a.parameter = s.features.data(), s.a.gradient = s.grad_features.data(), s.a.average = average.data();
    s.a.square = square.data(), s.a.steps = steps.data(), s.a.rate = 0.1, s.a.beta1 = 0.9, s.a.beta2 = 0.99;
    s.a.epsilon = 1e-8, launch_sparse_adam(&s.a, s.N, threads);
    Pictures pictures(s);
    pictures.show_behind(threads), pictures.fill(threads, false), pictures.fill(threads, true);
    pictures.photograph(threads), pictures.compare(threads);
    if (total != again || total == 0) {
        std::printf("the two orders drew %g and %g points\n", total, again);
        std::exit(1);
    }
    return total;
}

#define RUN(moving, name, size, limit, reach)                                                              \
    run(moving, size, limit, reach, launch_lens_bounds_##name, launch_cull_##name, launch_project_forward_##name, \
        launch_project_backward_##name, launch_draw_forward_##name, launch_draw_backward_##name)

int main() {
    for (bool moving : {false, true})
        std::printf("%g hits drawn\n", RUN(moving, opencv, 8, launch_lens_limit_opencv, launch_lens_reach_opencv) +
                                          RUN(moving, fisheye, 4, launch_lens_limit_fisheye, launch_lens_reach_fisheye) +
                                          RUN(moving, ocam, 20, nullptr, nullptr));
    return 0;
}
