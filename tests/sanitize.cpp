// Runs every entry point of the CPU library on four threads over a random scene, for the sanitizers to watch.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "cpu.cpp"

static std::mt19937 engine(1);
static real uniform(double low, double high) { return (real)std::uniform_real_distribution<double>(low, high)(engine); }

struct Scene {
    static const int V = 2, N = 6000, C = 4, L = 4, W = 101, H = 67, B = 64;
    std::vector<real> pose, intrinsics, distortion, crop, reach, xyz, radius, normals, features, background;
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
        }
        reach.assign(5 * V, 0);
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

typedef void (*Launch)(const Arguments*, int64, int);

static double run(int size, Launch lens, Launch cull, Launch forward, Launch backward, Launch draw, Launch adjoint) {
    Scene s;
    s.fill_cameras(size), s.fill_points(), s.fill_arguments(size);
    const int threads = 4;
    lens(&s.a, s.V, threads);
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
    s.a.grad_uv = nullptr;
    adjoint(&s.a, 0, threads);
    std::vector<int> steps(s.N, 0);
    std::vector<real> average(s.N * s.C, 0), square(s.N * s.C, 0);
    s.a.parameter = s.features.data(), s.a.gradient = s.grad_features.data(), s.a.average = average.data();
    s.a.square = square.data(), s.a.steps = steps.data(), s.a.rate = 0.1, s.a.beta1 = 0.9, s.a.beta2 = 0.99;
    s.a.epsilon = 1e-8, launch_sparse_adam(&s.a, s.N, threads);
    if (total != again || total == 0) {
        std::printf("the two orders drew %g and %g points\n", total, again);
        std::exit(1);
    }
    return total;
}

#define RUN(name, size)                                                                                        \
    run(size, launch_lens_##name, launch_cull_##name, launch_project_forward_##name, launch_project_backward_##name, \
        launch_draw_forward_##name, launch_draw_backward_##name)

int main() {
    std::printf("%g hits drawn\n", RUN(opencv, 8) + RUN(fisheye, 4) + RUN(ocam, 20));
    return 0;
}
