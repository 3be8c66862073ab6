// The CPU library: every entry point of the kernels, and the band order of rasterize and draw.
#include "lens.cu"
#include "project.cu"
#include "rasterize.cu"
#include "adam.cu"
#include "photo.cu"
#include "compare.cu"
#include "base.cu"
#include "behind.cu"

#include "bands_backward.h"
#include "bands_forward.h"

static void draw_any(const Arguments& args, int threads) {
    switch (args.channels) {
        case 3: return draw_bands<3>(args, threads);
        case 4: return draw_bands<4>(args, threads);
        case 8: return draw_bands<8>(args, threads);
        default: return draw_bands<0>(args, threads);
    }
}

static void backward_any(const Arguments& args, int threads, const LensModel& model) {
    switch (args.channels) {
        case 3: return backward_bands<3>(args, threads, model);
        case 4: return backward_bands<4>(args, threads, model);
        case 8: return backward_bands<8>(args, threads, model);
        default: return backward_bands<0>(args, threads, model);
    }
}

#define ENTRY(name, model)                                                     \
    extern "C" void launch_draw_forward_##name(const Arguments* args, int64, int threads) { \
        bin_points(*args, threads, pick_projector<model>(*args), false);                                       \
        draw_any(*args, threads);                                                           \
    }                                                                                       \
    extern "C" void launch_draw_backward_##name(const Arguments* args, int64, int threads) { \
        backward_any(*args, threads, {project_alone<model>, project_point_backward<model>});                                              \
    }
ENTRY(opencv, OPENCV)
ENTRY(fisheye, FISHEYE)
ENTRY(ocam, OCAM)

extern "C" void launch_bands_forward(const Arguments* args, int64, int threads) {
    bin_points(*args, threads, run_reader, true);
    draw_any(*args, threads);
}
extern "C" void launch_bands_backward(const Arguments* args, int64, int threads) { backward_any(*args, threads, {nullptr, nullptr}); }

extern "C" int64 adop_arguments_size() { return sizeof(Arguments); }
extern "C" int64 adop_hit_size() { return sizeof(Hit); }
#ifndef ADOP_SOURCE_HASH
#define ADOP_SOURCE_HASH "unknown"
#endif
extern "C" const char* adop_source_hash() { return ADOP_SOURCE_HASH; }
