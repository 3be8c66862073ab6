// The CPU library: every entry point of the kernels, and the band order of rasterize and draw.
#include "lens.cu"
#include "project.cu"
#include "rasterize.cu"
#include "adam.cu"
#include "tonemap.cu"
#include "image_loss.cu"
#include "hole_filling.cu"
#include "renderer.cu"
#include "environment.cu"
#include "crops.cu"
#include "reproject.cu"
#include "patch_match.cu"

#include "bands_backward.h"
#include "bands_forward.h"
#include "camera_points.h"
#include "layout.h"

static void draw_bands_of(const BandArguments& args, int threads) {
    switch (args.pyramid.channels) {
        case 3:
            return draw_bands<3>(args, threads);
        case 4:
            return draw_bands<4>(args, threads);
        case 8:
            return draw_bands<8>(args, threads);
        default:
            return draw_bands<0>(args, threads);
    }
}

static void backward_bands_of(const BandArguments& args, const PositionGradient* positions, int threads) {
    switch (args.pyramid.channels) {
        case 3:
            return backward_bands<3>(args, positions, threads);
        case 4:
            return backward_bands<4>(args, positions, threads);
        case 8:
            return backward_bands<8>(args, positions, threads);
        default:
            return backward_bands<0>(args, positions, threads);
    }
}

template <int MODEL>
static const char* draw_forward(const DrawArguments& args, int threads) {
    return error_of([&] {
        with_camera_points<MODEL>(args, [&](const PointSource& source) { bin_points(args.bands, source, threads); });
        draw_bands_of(args.bands, threads);
    });
}

template <int MODEL>
static const char* draw_backward(const DrawArguments& args, int threads) {
    return error_of([&] {
        const CameraGradient<MODEL> positions(args);
        backward_bands_of(args.bands, args.grad_xyz ? &positions : nullptr, threads);
    });
}

#define DRAW_ENTRY_POINTS(name, MODEL)                                                                  \
    extern "C" const char* launch_draw_forward_##name(const DrawArguments* args, int64, int threads) {  \
        return draw_forward<MODEL>(*args, threads);                                                     \
    }                                                                                                   \
    extern "C" const char* launch_draw_backward_##name(const DrawArguments* args, int64, int threads) { \
        return draw_backward<MODEL>(*args, threads);                                                    \
    }
DRAW_ENTRY_POINTS(opencv, OPENCV)
DRAW_ENTRY_POINTS(fisheye, FISHEYE)
DRAW_ENTRY_POINTS(ocam, OCAM)

extern "C" const char* launch_bands_forward(const RasterizeArguments* args, int64, int threads) {
    return error_of([&] {
        bin_points(args->bands, ProjectedPoints(args->projected, args->bands.blocks.points), threads);
        draw_bands_of(args->bands, threads);
    });
}
extern "C" const char* launch_bands_backward(const RasterizeArguments* args, int64, int threads) {
    return error_of([&] {
        const PixelGradient positions(*args);
        backward_bands_of(args->bands, args->grad_uv ? &positions : nullptr, threads);
    });
}

extern "C" int64 adop_hit_size() { return sizeof(Hit); }
#ifndef ADOP_SOURCE_HASH
#define ADOP_SOURCE_HASH "unknown"
#endif
extern "C" const char* adop_source_hash() { return ADOP_SOURCE_HASH; }
