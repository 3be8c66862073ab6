// Runs every entry point of the CPU library on four threads over a random scene, for the sanitizers to watch.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "cpu.cpp"

static std::mt19937 engine(1);
static real uniform(double low, double high) { return (real)std::uniform_real_distribution<double>(low, high)(engine); }

static const int VIEWS = 2, POINTS = 6000, CHANNELS = 4, LEVELS = 4, WIDTH = 101, HEIGHT = 67, BLOCK = 64;
static const int BLOCKS = (POINTS + BLOCK - 1) / BLOCK, SLOTS = 64, THREADS = 4;

static int columns(int level) { return level_extent(WIDTH, level); }
static int rows(int level) { return level_extent(HEIGHT, level); }
static int64 plane(int level) { return (int64)columns(level) * rows(level); }

static void check(const char* error) {
    if (!error) return;
    std::printf("%s\n", error);
    std::exit(1);
}

// Owns the memory that arguments point to.
struct Memory {
    std::vector<std::vector<real>> kept;
    std::vector<std::vector<char>> bytes;

    real* reals(int64 count, double value = 0) {
        kept.emplace_back((size_t)count, (real)value);
        return kept.back().data();
    }
    real* random(int64 count, double low, double high) {
        real* out = reals(count);
        for (int64 i = 0; i < count; ++i) out[i] = uniform(low, high);
        return out;
    }
    template <class Type>
    Type* zeros(int64 count) {
        bytes.emplace_back((size_t)(count * sizeof(Type)), (char)0);
        return (Type*)bytes.back().data();
    }
};

static CameraArguments make_cameras(Memory& memory, int distortion_size, bool moving) {
    CameraArguments a = CameraArguments();
    real *pose = memory.reals(16 * VIEWS), *intrinsics = memory.reals(4 * VIEWS), *crop = memory.reals(3 * VIEWS);
    real *distortion = memory.random(distortion_size * VIEWS, -0.01, 0.01), *shutter = memory.reals(7 * VIEWS);
    for (int v = 0; v < VIEWS; ++v) {
        const double matrix[16] = {1, 0, 0, 0.1 * v, 0, 1, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1};
        const double lens[4] = {90, 91, WIDTH / 2.0, HEIGHT / 2.0};
        const double motion[7] = {0.1, -0.1, 0.05, 0.02, 0.03, -0.02, HEIGHT};
        for (int i = 0; i < 16; ++i) pose[16 * v + i] = (real)matrix[i];
        for (int i = 0; i < 4; ++i) intrinsics[4 * v + i] = (real)lens[i];
        for (int i = 0; i < 7; ++i) shutter[7 * v + i] = (real)motion[i];
        crop[3 * v] = 1;
        if (distortion_size == 20) {
            real* d = distortion + 20 * v;
            d[0] = 1, d[3] = 1, d[4] = 141, d[5] = 90;
        }
    }
    a.world_to_camera = pose, a.intrinsics = intrinsics, a.distortion = distortion, a.crop = crop;
    a.shutter = moving ? shutter : nullptr;
    a.limit = memory.reals(VIEWS, 1e30), a.bounds = memory.reals(4 * VIEWS, 1);  // at their widest
    a.views = VIEWS, a.width = WIDTH, a.height = HEIGHT, a.distortion_size = distortion_size, a.near_depth = 0.01;
    return a;
}

// A scene, and the arguments of project, rasterize and draw for it.
struct Scene {
    Memory memory;
    CameraArguments camera;
    PointArguments points = PointArguments();
    CullArguments cull = CullArguments();
    ProjectArguments project = ProjectArguments();
    RasterizeArguments rasterize = RasterizeArguments();
    DrawArguments draw = DrawArguments();

    Scene(int distortion_size, bool moving) : camera(make_cameras(memory, distortion_size, moving)) {
        make_points();
        make_bands();
    }
    void make_points() {
        real *xyz = memory.random(3 * POINTS, -2, 2), *radius = memory.reals(POINTS);
        real* steps = memory.reals(BLOCKS * BLOCK_STEPS, -1);
        xyz[5] = std::numeric_limits<real>::quiet_NaN(), xyz[100] = std::numeric_limits<real>::infinity();
        for (int i = 0; i < POINTS; ++i) {
            radius[i] = (real)(0.2 * (BLOCK - i % BLOCK) / BLOCK);
            if (i % (BLOCK / BLOCK_STEPS) == 0) steps[i / (BLOCK / BLOCK_STEPS)] = radius[i];
        }
        points.xyz = xyz, points.radius = radius, points.normals = memory.random(3 * POINTS, -1, 1);
        cull.camera = camera, cull.radius = radius, cull.block_radius = steps, cull.radius_threshold = 0.6;
        cull.block_lower = memory.reals(3 * BLOCKS, -2), cull.block_upper = memory.reals(3 * BLOCKS, 2);
        byte* falling = memory.zeros<byte>(BLOCKS);
        std::fill(falling, falling + BLOCKS, 1);
        cull.block_falling = falling;
        cull.blocks.visit = memory.zeros<int>(VIEWS * BLOCKS), cull.blocks.points = POINTS;
        cull.blocks.block_size = BLOCK, cull.blocks.blocks = BLOCKS;
        project.camera = camera, project.points = points, project.blocks = cull.blocks;
        project.projected.uv = memory.reals(2 * VIEWS * POINTS), project.projected.z = memory.reals(VIEWS * POINTS);
        project.projected.radius_px = memory.reals(VIEWS * POINTS);
        project.projected.visible = memory.zeros<byte>(VIEWS * POINTS);
        project.grad_z = memory.reals(VIEWS * POINTS), project.grad_xyz = memory.reals(3 * POINTS);
        project.grad_parameters = memory.reals(VIEWS * SLOTS * PARAMETERS), project.slots = SLOTS;
    }
    void make_bands() {
        BandArguments& bands = rasterize.bands;
        PyramidArguments& pyramid = bands.pyramid;
        byte* ghosts = memory.zeros<byte>(VIEWS * POINTS);
        for (int i = 0; i < VIEWS * POINTS; ++i) ghosts[i] = uniform(0, 1) < 0.3;
        bands.blocks = cull.blocks, pyramid.ghosts = ghosts, pyramid.features = memory.random(POINTS * CHANNELS, 0, 1);
        pyramid.views = VIEWS, pyramid.width = WIDTH, pyramid.height = HEIGHT,
        pyramid.channels = pyramid.row = CHANNELS;
        pyramid.levels = LEVELS, pyramid.depth_tolerance = 0.01, pyramid.radius_threshold = 0.6;
        for (int l = 0; l < LEVELS; ++l) {
            pyramid.image[l] = memory.reals(VIEWS * CHANNELS * plane(l)),
            pyramid.weight[l] = memory.reals(VIEWS * plane(l));
            pyramid.depth[l] = memory.reals(VIEWS * plane(l), std::numeric_limits<double>::infinity());
            pyramid.background[l] = memory.reals(CHANNELS, 0.5);
            bands.gradients.image[l] = memory.reals(VIEWS * CHANNELS * plane(l), 1);
        }
        bands.gradients.features = memory.reals(POINTS * CHANNELS);
        bands.hits.band_rows = 16, bands.hits.chunks = BLOCKS / 16 + 1;
        bands.hits.hits = memory.zeros<Hit>(VIEWS * POINTS);
        bands.hits.offsets = memory.zeros<int64>(VIEWS * (count_bins(bands) + 1) * bands.hits.chunks);
        for (int l = 0; l < LEVELS; ++l) rasterize.row_count += VIEWS * plane(l);
        rasterize.rows = memory.reals(rasterize.row_count * row_size(pyramid));
        rasterize.grad_uv = memory.reals(2 * VIEWS * POINTS), project.grad_uv = rasterize.grad_uv;
        rasterize.projected = project.projected;
        draw.bands = bands, draw.camera = camera, draw.points = points, draw.grad_xyz = project.grad_xyz;
        draw.grad_parameters = memory.reals(VIEWS * count_bands(bands) * PARAMETERS);
    }
    double count_drawn() const {
        double total = 0;
        for (int64 i = 0; i < VIEWS * plane(0); ++i) total += rasterize.bands.pyramid.weight[0][i];
        return total;
    }
};

static RayArguments make_rays(Scene& s) {
    RayArguments rays = RayArguments();
    rays.world_to_camera = s.camera.world_to_camera, rays.crop = s.camera.crop;
    rays.photo_size = s.memory.reals(2 * VIEWS, 100);
    rays.rows = 5, rays.columns = 7, rays.local = s.memory.random(VIEWS * 3 * 35, 0.2, 1);
    return rays;
}

static void run_environment(Scene& s) {
    Memory& memory = s.memory;
    EnvironmentArguments a = EnvironmentArguments();
    a.rays = make_rays(s);
    a.texels = memory.reals(16 * 32 * CHANNELS, 1), a.grad_texels = memory.reals(16 * 32 * CHANNELS);
    a.channels = CHANNELS, a.width = WIDTH, a.height = HEIGHT;
    for (int l = 0; l < LEVELS; ++l) {
        a.level = l, a.mip_level = l / 2, a.map_rows = 16 >> a.mip_level, a.map_columns = 32 >> a.mip_level;
        a.image[l] = s.rasterize.bands.pyramid.image[l], a.weight[l] = s.rasterize.bands.pyramid.weight[l];
        a.composite[l] = memory.reals(VIEWS * CHANNELS * plane(l));
        a.coordinates[l] = memory.reals(VIEWS * 2 * plane(l));
        a.grad_composite[l] = memory.reals(VIEWS * CHANNELS * plane(l), 1);
        a.grad_image[l] = memory.reals(VIEWS * CHANNELS * plane(l));
        for (a.view = 0; a.view < VIEWS; ++a.view) check(launch_environment_forward(&a, plane(l), THREADS));
        for (a.view = 0; a.view < VIEWS; ++a.view) check(launch_environment_backward(&a, plane(l), 1));
    }
}

typedef const char* (*Reproject)(const ReprojectArguments*, int64, int);
static void run_reproject(Scene& s, Reproject launch) {
    Memory& memory = s.memory;
    ReprojectArguments a = ReprojectArguments();
    const int64 halves = plane(1);
    a.camera = s.camera, a.rays = make_rays(s);
    a.depth = memory.random(VIEWS * plane(0), 2, 4), a.surfaces = memory.random(VIEWS * halves, 2, 4);
    int64 *places = memory.zeros<int64>(5 * VIEWS), *chosen = memory.zeros<int64>(3 * VIEWS);
    for (int v = 0; v < VIEWS; ++v) {
        const int64 place[5] = {3 * plane(0) * v, halves * v, WIDTH, HEIGHT, 0};
        for (int i = 0; i < 5; ++i) places[5 * v + i] = place[i];
        chosen[3 * v + 1] = 1, chosen[3 * v + 2] = -1;
    }
    a.places = places, a.chosen = chosen, a.pixels = memory.zeros<byte>(3 * VIEWS * plane(0));
    a.curve = memory.reals(3 * 256, 0.5), a.gain = memory.reals(3 * VIEWS), a.vignette = memory.reals(5, 0.01);
    a.scratch = memory.reals(SCRATCH * VIEWS * plane(0)), a.shown = memory.reals(8 * VIEWS * plane(0));
    a.width = WIDTH, a.height = HEIGHT, a.chosen_count = 3, a.depth_along_axis = 1, a.tolerance = 1, a.far = 1e4;
    for (a.view = 0; a.view < VIEWS; ++a.view) check(launch(&a, plane(0), THREADS));
    double seen = 0;
    for (int64 i = 0; i < 8 * VIEWS * plane(0); ++i) seen += a.shown[i];
    if (!(seen > 0)) check("photos show nothing");
}

static void run_hole_filling(Scene& s, bool background) {
    Memory& memory = s.memory;
    HoleFillingArguments a = HoleFillingArguments();
    a.views = VIEWS, a.channels = CHANNELS, a.width = WIDTH, a.height = HEIGHT, a.levels = LEVELS;
    a.fill_levels = 3, a.occlusion_levels = 2, a.tolerance = 0.05;
    for (int l = 0; l < LEVELS; ++l) {
        const int64 count = VIEWS * plane(l);
        const PyramidArguments& pyramid = s.rasterize.bands.pyramid;
        a.image[l] = pyramid.image[l], a.weight[l] = pyramid.weight[l], a.depth[l] = pyramid.depth[l];
        for (real** out : {&a.valid[l], &a.occlusion[l], &a.surface[l]}) *out = memory.reals(count);
        for (real** out : {&a.colours[l], &a.grad_upsampled[l]}) *out = memory.reals(3 * count);
        a.grad_colours[l] = memory.reals(3 * count, 1), a.grad_image[l] = memory.reals(CHANNELS * count);
        a.background[l] = background ? memory.reals(3 * count, 1) : nullptr;
        a.grad_background[l] = background ? memory.reals(3 * count) : nullptr;
        a.padded_depth[l] = memory.reals(VIEWS * (int64)(columns(l) + 2 * REACH) * (rows(l) + 2 * REACH), 2);
    }
    for (int l = LEVELS - 1; l >= 0; --l) {
        const int64 count = VIEWS * 3 * (int64)rows(l) * columns(l + 1);
        a.level = l, a.resampled_rows[l] = memory.reals(count);
        check(launch_holes_surface(&a, VIEWS * plane(l), THREADS));
        if (l + 1 < a.fill_levels) check(launch_holes_upsample(&a, count, THREADS));
        check(launch_holes_colours(&a, VIEWS * plane(l), THREADS));
    }
    for (int l = 0; l < LEVELS; ++l) {
        const int64 count = l ? VIEWS * 3 * (int64)rows(l) * columns(l - 1) : 0;
        a.level = l, a.resampled_rows[l] = l ? memory.reals(count) : nullptr;
        if (l > 0 && l < a.fill_levels) check(launch_holes_upsample_backward(&a, count, THREADS));
        check(launch_holes_colours_backward(&a, VIEWS * plane(l), THREADS));
    }
}

static void run_renderer(Scene& s, bool photos, bool interleaved) {
    Memory& memory = s.memory;
    RendererArguments a = RendererArguments();
    a.width = WIDTH, a.height = HEIGHT, a.channels = CHANNELS, a.joined = photos;
    a.brightness = memory.reals(VIEWS, 0.5), a.shown = photos ? memory.reals(VIEWS * 8 * plane(0), 1) : nullptr;
    for (int l = 0; l < LEVELS; ++l) {
        const int64 count = VIEWS * plane(l);
        a.level = l, a.input_channels = CHANNELS + (photos ? 4 : 5) + (photos && l == 0 ? 8 : 0);
        a.image[l] = s.rasterize.bands.pyramid.image[l], a.valid[l] = memory.reals(count, 1);
        a.occlusion[l] = memory.reals(count, 0.1), a.colours[l] = memory.reals(3 * count, 0.5);
        a.inputs[l] = memory.reals(a.input_channels * count);
        a.grad_inputs[l] = memory.reals(a.input_channels * count, 1);
        a.grad_image[l] = memory.reals(CHANNELS * count), a.grad_colours[l] = memory.reals(3 * count);
        a.channel_step = interleaved ? 1 : plane(l), a.pixel_step = interleaved ? a.input_channels : 1;
        for (a.view = 0; a.view < VIEWS; ++a.view) {
            check(launch_renderer_inputs(&a, plane(l), THREADS));
            check(launch_renderer_inputs_backward(&a, plane(l), THREADS));
        }
    }
    const int64 count = VIEWS * plane(0), outputs = photos ? 9 : 6;
    a.level = 0, a.outputs = memory.reals(outputs * count, 0.1), a.grad_outputs = memory.reals(outputs * count);
    a.radiance = memory.reals(3 * count), a.grad_radiance = memory.reals(3 * count, 1);
    for (a.view = 0; a.view < VIEWS; ++a.view) {
        check(launch_renderer_output(&a, plane(0), THREADS));
        check(launch_renderer_output_backward(&a, plane(0), THREADS));
    }
}

static void run_tonemap(Scene& s) {
    Memory& memory = s.memory;
    TonemapArguments a = TonemapArguments();
    const int64 count = plane(0), values = VIEWS * 3 * count;
    a.radiance = memory.reals(values, 0.4), a.photo = memory.reals(values), a.grad_photo = memory.reals(values, 1);
    a.grad_radiance = memory.reals(values), a.positions = memory.reals(values), a.slopes = memory.reals(values);
    a.gain = memory.reals(VIEWS * 3, 1), a.curve = memory.reals(VIEWS * 3 * 25, 0.5);
    a.vignette = memory.reals(VIEWS * 5, 0.01), a.crop = s.camera.crop, a.photo_size = memory.reals(2 * VIEWS, 100);
    a.sums = memory.reals(VIEWS * SLOTS * 83), a.slots = SLOTS, a.samples = 25, a.leak = 0.01;
    a.width = WIDTH, a.height = HEIGHT;
    for (a.view = 0; a.view < VIEWS; ++a.view) {
        check(launch_tonemap_forward(&a, count, THREADS));
        check(launch_tonemap_backward(&a, count, THREADS));
    }
}

static void run_image_loss(Scene& s) {
    Memory& memory = s.memory;
    ImageLossArguments a = ImageLossArguments();
    const int64 count = plane(0), values = VIEWS * 3 * count, padded = (WIDTH + 2 * EDGE) * (HEIGHT + 2 * EDGE);
    const int64 padded_rows = (WIDTH + 2 * EDGE) * HEIGHT;
    a.image = memory.random(values, 0, 1), a.target = memory.random(values, 0, 1);
    a.mask = memory.reals(VIEWS * count, 1), a.window = memory.reals(TAPS, 1.0 / TAPS);
    a.grey = memory.reals(VIEWS * 2 * count), a.row_sums = memory.reals(VIEWS * 5 * count);
    a.partial = memory.reals(VIEWS * 4 * padded), a.row_partial = memory.reals(VIEWS * 3 * padded_rows);
    a.grad_sums = memory.reals(VIEWS * 3, 1), a.grad_image = memory.reals(values);
    a.sums = memory.reals(VIEWS * SLOTS * 4), a.slots = SLOTS, a.ssim_c1 = 1e-4, a.ssim_c2 = 9e-4;
    a.width = WIDTH, a.height = HEIGHT;
    for (a.view = 0; a.view < VIEWS; ++a.view) {
        check(launch_image_loss_pixels(&a, count, THREADS));
        check(launch_image_loss_rows(&a, (WIDTH - EDGE) * HEIGHT, THREADS));
        check(launch_image_loss_columns(&a, (WIDTH - EDGE) * (HEIGHT - EDGE), THREADS));
        check(launch_image_loss_columns_backward(&a, padded_rows, THREADS));
        check(launch_image_loss_rows_backward(&a, count, THREADS));
    }
}

static void run_sparse_adam(Scene& s) {
    Memory& memory = s.memory;
    SparseAdamArguments a = SparseAdamArguments();
    a.parameter = memory.reals(POINTS * CHANNELS, 1), a.gradient = s.rasterize.bands.gradients.features;
    a.average = memory.reals(POINTS * CHANNELS), a.square = memory.reals(POINTS * CHANNELS);
    a.steps = memory.zeros<int>(POINTS), a.rows = POINTS, a.channels = CHANNELS;
    a.scales = memory.reals(2 * 2, 1), a.counts = 2;
    a.rates = memory.reals(CHANNELS, 0.1), a.decays = memory.reals(CHANNELS, 1), a.beta1 = 0.9, a.beta2 = 0.99,
    a.epsilon = 1e-8, a.full_steps = 1;
    check(launch_sparse_adam(&a, POINTS, THREADS));
}

// The entry points of one camera model.
struct LensKernels {
    const char* (*limit)(const LensArguments*, int64, int);
    const char* (*reach)(const LensArguments*, int64, int);
    const char* (*bounds)(const LensArguments*, int64, int);
    const char* (*cull)(const CullArguments*, int64, int);
    const char* (*project)(const ProjectArguments*, int64, int);
    const char* (*project_backward)(const ProjectArguments*, int64, int);
    const char* (*draw)(const DrawArguments*, int64, int);
    const char* (*draw_backward)(const DrawArguments*, int64, int);
    Reproject reproject;
};

static double run(bool moving, int distortion_size, const LensKernels& kernels) {
    Scene s(distortion_size, moving);
    LensArguments lens = {s.camera, nullptr};
    real* field = s.memory.reals(1025);
    for (int i = 0; i < 1025; ++i) field[i] = (real)(0.003 * i);
    lens.field = field;
    if (kernels.limit) check(kernels.limit(&lens, VIEWS * 1024, THREADS));
    if (kernels.reach) check(kernels.reach(&lens, VIEWS * 1024, THREADS));
    check(kernels.bounds(&lens, VIEWS, THREADS));
    for (s.cull.view = 0; s.cull.view < VIEWS; ++s.cull.view) check(kernels.cull(&s.cull, BLOCKS, THREADS));
    for (s.project.view = 0; s.project.view < VIEWS; ++s.project.view)
        check(kernels.project(&s.project, POINTS, THREADS));
    RasterizeArguments& rasterize = s.rasterize;
    check(launch_raster_clear(&rasterize, rasterize.row_count, THREADS));
    check(launch_raster_depth(&rasterize, VIEWS * POINTS, THREADS));
    check(launch_raster_blend(&rasterize, VIEWS * POINTS, THREADS));
    check(launch_raster_normalise(&rasterize, rasterize.row_count, THREADS));
    check(launch_raster_load_gradients(&rasterize, rasterize.row_count, THREADS));
    check(launch_raster_backward_features(&rasterize, POINTS, THREADS));
    check(launch_raster_backward_uv(&rasterize, VIEWS * POINTS, THREADS));
    for (s.project.view = 0; s.project.view < VIEWS; ++s.project.view)
        check(kernels.project_backward(&s.project, POINTS, THREADS));
    const double by_point = s.count_drawn();
    check(kernels.draw(&s.draw, 0, THREADS));
    const double by_band = s.count_drawn();
    rasterize.bands.gradients.bilinear = 1;
    check(launch_raster_backward_uv(&rasterize, VIEWS * POINTS, THREADS));
    check(launch_bands_backward(&rasterize, 0, THREADS));
    for (int64 bilinear : {0, 1}) {
        s.draw.bands.gradients.bilinear = bilinear;
        check(kernels.draw_backward(&s.draw, 0, THREADS));
    }
    run_sparse_adam(s), run_environment(s), run_hole_filling(s, false), run_hole_filling(s, true);
    run_renderer(s, true, true), run_renderer(s, false, false);
    run_tonemap(s), run_image_loss(s), run_reproject(s, kernels.reproject);
    std::fill(rasterize.bands.hits.offsets,
              rasterize.bands.hits.offsets + VIEWS * (count_bins(rasterize.bands) + 1) * rasterize.bands.hits.chunks,
              0);
    check(launch_bands_forward(&rasterize, 0, THREADS));
    if (by_point != by_band || by_point == 0 || by_point != s.count_drawn()) {
        std::printf("the orders drew %g, %g and %g points\n", by_point, by_band, s.count_drawn());
        std::exit(1);
    }
    return by_point;
}

#define KERNELS(name, limit, reach)                                                                  \
    LensKernels {                                                                                    \
        limit, reach, launch_lens_bounds_##name, launch_cull_##name, launch_project_forward_##name,  \
            launch_project_backward_##name, launch_draw_forward_##name, launch_draw_backward_##name, \
            launch_reproject_##name                                                                  \
    }

int main() {
    for (bool moving : {false, true}) {
        const double total = run(moving, 8, KERNELS(opencv, launch_lens_limit_opencv, launch_lens_reach_opencv)) +
                             run(moving, 4, KERNELS(fisheye, launch_lens_limit_fisheye, launch_lens_reach_fisheye)) +
                             run(moving, 20, KERNELS(ocam, nullptr, nullptr));
        std::printf("%g hits drawn\n", total);
    }
    return 0;
}
