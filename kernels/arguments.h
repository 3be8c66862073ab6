// The arguments of the kernels: one struct for each op, composed of structs that several ops share.
//
// Every field is a pointer, an array of pointers (one for each pyramid level), a 64-bit integer or a double, so that
// all compilers lay the structs out alike. `adop/backend/arguments.py` declares the same structs; `layout.h` exports
// name, offset, size and kind of every field, and Python compares them when it loads the CPU library. Unused pointers
// are null.
//
// Sizes in comments: B views, N points, K blocks, C channels, S slots, G = PARAMETERS; level l is H_l x W_l.
#pragma once
#include "portable.h"

#define MAX_LEVELS 12
#define BLOCK_STEPS 16
#define PARAMETERS 36  // gradients of one view: 12 of the pose's upper rows, 4 intrinsics, up to 20 distortion
enum Model { OPENCV = 0, FISHEYE = 1, OCAM = 2 };

typedef real* Levels[MAX_LEVELS];
typedef const real* ConstLevels[MAX_LEVELS];

#define DECLARE_FIELD(type, name) type name;
#define ARGUMENTS(Structure, FIELDS) \
    struct Structure {               \
        FIELDS(DECLARE_FIELD)        \
    };

// clang-format off
#define CAMERA_FIELDS(FIELD) \
    FIELD(const real*, world_to_camera) /* [B, 4, 4] */ \
    FIELD(const real*, intrinsics)      /* [B, 4] */ \
    FIELD(const real*, distortion)      /* [B, distortion_size] */ \
    FIELD(const real*, crop)            /* [B, 3] zoom, offset x, offset y */ \
    FIELD(const real*, shutter)         /* [B, 7] motion from first to last row, rows of the full photo; or null */ \
    FIELD(real*, limit)                 /* [B] largest field radius that the lens shows */ \
    FIELD(real*, bounds)                /* [B, 4] opencv: least and largest x/z, y/z in view; else the cone's angle */ \
    FIELD(int64, views) \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, distortion_size) \
    FIELD(double, near_depth)           /* least visible depth, scene units */
ARGUMENTS(CameraArguments, CAMERA_FIELDS)

// The points in world space.
#define POINT_FIELDS(FIELD) \
    FIELD(const real*, xyz)     /* [N, 3] */ \
    FIELD(const real*, radius)  /* [N] level-of-detail radius, scene units */ \
    FIELD(const real*, normals) /* [N, 3] or null */
ARGUMENTS(PointArguments, POINT_FIELDS)

// Which points are visited: block by block, from the first point of each.
#define BLOCK_FIELDS(FIELD) \
    FIELD(int*, visit) /* [B, K] how many points of a block to visit; null: all */ \
    FIELD(int64, points) \
    FIELD(int64, block_size) \
    FIELD(int64, blocks)
ARGUMENTS(BlockArguments, BLOCK_FIELDS)

// Points in pixels.
#define PROJECTED_FIELDS(FIELD) \
    FIELD(real*, uv)        /* [B, N, 2] */ \
    FIELD(real*, z)         /* [B, N] */ \
    FIELD(real*, radius_px) /* [B, N] */ \
    FIELD(byte*, visible)   /* [B, N] */
ARGUMENTS(ProjectedArguments, PROJECTED_FIELDS)

#define PYRAMID_FIELDS(FIELD) \
    FIELD(const real*, features)     /* [N, row] C channels, then the harmonics if there are any */ \
    FIELD(const real*, xyz)          /* [N, 3] or null: features have no harmonics, see harmonics.h */ \
    FIELD(const real*, centres)      /* [B, 3] of the cameras, or null */ \
    FIELD(const byte*, ghosts)       /* [B, N] or null */ \
    FIELD(Levels, image)             /* [B, C, H_l, W_l] */ \
    FIELD(Levels, weight)            /* [B, 1, H_l, W_l] */ \
    FIELD(Levels, depth)             /* [B, 1, H_l, W_l] */ \
    FIELD(ConstLevels, background)   /* [C], or [B, C, H_l, W_l] if background_full */ \
    FIELD(int64, views) \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, channels) \
    FIELD(int64, row) \
    FIELD(int64, levels) \
    FIELD(int64, background_full) \
    FIELD(double, depth_tolerance) \
    FIELD(double, radius_threshold)
ARGUMENTS(PyramidArguments, PYRAMID_FIELDS)

#define PYRAMID_GRADIENT_FIELDS(FIELD) \
    FIELD(ConstLevels, image) /* [B, C, H_l, W_l] gradient of the images */ \
    FIELD(real*, features)    /* [N, row] or null */ \
    FIELD(int64, bilinear)    /* 1: every point has a bilinear footprint; 0: ghosts have neighbour differences */
ARGUMENTS(PyramidGradientArguments, PYRAMID_GRADIENT_FIELDS)

// Hits of the CPU's band order, see bands.h.
#define HIT_FIELDS(FIELD) \
    FIELD(void*, hits)      /* [capacity] Hit */ \
    FIELD(int64*, offsets)  /* [B, bins + 1, chunks] */ \
    FIELD(int64, chunks) \
    FIELD(int64, band_rows)
ARGUMENTS(HitArguments, HIT_FIELDS)

#define BAND_FIELDS(FIELD) \
    FIELD(BlockArguments, blocks) \
    FIELD(PyramidArguments, pyramid) \
    FIELD(PyramidGradientArguments, gradients) \
    FIELD(HitArguments, hits)
ARGUMENTS(BandArguments, BAND_FIELDS)

#define LENS_FIELDS(FIELD) \
    FIELD(CameraArguments, camera) \
    FIELD(const real*, field) /* [1025] field radii at which a lens is searched, rising from 0 */
ARGUMENTS(LensArguments, LENS_FIELDS)

#define CULL_FIELDS(FIELD) \
    FIELD(CameraArguments, camera) \
    FIELD(BlockArguments, blocks) \
    FIELD(const real*, radius)        /* [N]; null: tails are cut to whole parts of their blocks */ \
    FIELD(const real*, block_lower)   /* [K, 3] */ \
    FIELD(const real*, block_upper)   /* [K, 3] */ \
    FIELD(const real*, block_radius)  /* [K, BLOCK_STEPS] the first radius of each of BLOCK_STEPS equal parts */ \
    FIELD(const byte*, block_falling) /* [K] whether the radii fall from point to point */ \
    FIELD(int64, view) \
    FIELD(double, radius_threshold)
ARGUMENTS(CullArguments, CULL_FIELDS)

#define PROJECT_FIELDS(FIELD) \
    FIELD(CameraArguments, camera) \
    FIELD(PointArguments, points) \
    FIELD(BlockArguments, blocks) \
    FIELD(ProjectedArguments, projected) \
    FIELD(const real*, grad_uv)    /* [B, N, 2] */ \
    FIELD(const real*, grad_z)     /* [B, N] */ \
    FIELD(real*, grad_xyz)         /* [N, 3] */ \
    FIELD(real*, grad_parameters)  /* [B, S, G] */ \
    FIELD(int64, slots) \
    FIELD(int64, view)
ARGUMENTS(ProjectArguments, PROJECT_FIELDS)

#define RASTERIZE_FIELDS(FIELD) \
    FIELD(BandArguments, bands) \
    FIELD(ProjectedArguments, projected) \
    FIELD(real*, grad_uv) /* [B, N, 2] or null */ \
    FIELD(real*, rows)    /* [row_count, R] a row for each pixel of all levels, see rasterize.cu */ \
    FIELD(int64, row_count)
ARGUMENTS(RasterizeArguments, RASTERIZE_FIELDS)

#define DRAW_FIELDS(FIELD) \
    FIELD(BandArguments, bands) \
    FIELD(CameraArguments, camera) \
    FIELD(PointArguments, points) \
    FIELD(real*, grad_xyz)        /* [N, 3] or null */ \
    FIELD(real*, grad_parameters) /* [B, bands, G] or null */
ARGUMENTS(DrawArguments, DRAW_FIELDS)

#define SPARSE_ADAM_FIELDS(FIELD) \
    FIELD(real*, parameter)      /* [N, C] */ \
    FIELD(const real*, gradient) /* [N, C] */ \
    FIELD(real*, average)        /* [N, C] running mean of the gradient */ \
    FIELD(real*, square)         /* [N, C] running mean of its square */ \
    FIELD(int*, steps)           /* [N] */ \
    FIELD(const real*, rates)    /* [C] */ \
    FIELD(const real*, decays)   /* [C] */ \
    FIELD(const real*, scales)   /* [counts, 2] by step: what the biases of the two running means are corrected by */ \
    FIELD(int64, rows) \
    FIELD(int64, channels) \
    FIELD(int64, counts) \
    FIELD(double, beta1) \
    FIELD(double, beta2) \
    FIELD(double, epsilon) \
    FIELD(double, full_steps)    /* of a row; after them its rate falls as 1 / step */
ARGUMENTS(SparseAdamArguments, SPARSE_ADAM_FIELDS)

// See tonemap.cu.
#define TONEMAP_FIELDS(FIELD) \
    FIELD(const real*, radiance)    /* [B, 3, H, W] */ \
    FIELD(const real*, gain)        /* [B, 3] */ \
    FIELD(const real*, curve)       /* [B, 3, samples] */ \
    FIELD(const real*, vignette)    /* [B, 5] a b c and the centre */ \
    FIELD(const real*, crop)        /* [B, 3] */ \
    FIELD(const real*, photo_size)  /* [B, 2] width and height of the full photo */ \
    FIELD(real*, photo)             /* [B, 3, H, W] */ \
    FIELD(const real*, grad_photo)  /* [B, 3, H, W] */ \
    FIELD(real*, grad_radiance)     /* [B, 3, H, W] */ \
    FIELD(real*, positions)         /* [B, 3, H, W] scratch: light's position on the response, in samples */ \
    FIELD(real*, slopes)            /* [B, 3, H, W] scratch: forward the leak, backward the position's slope */ \
    FIELD(real*, sums)              /* [B, S, 8 + 3 samples] gradients of gain, vignette and curve */ \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, samples) \
    FIELD(int64, slots) \
    FIELD(int64, view) \
    FIELD(double, leak)
ARGUMENTS(TonemapArguments, TONEMAP_FIELDS)

// See image_loss.cu.
#define IMAGE_LOSS_FIELDS(FIELD) \
    FIELD(const real*, image)     /* [B, 3, H, W] */ \
    FIELD(const real*, target)    /* [B, 3, H, W] */ \
    FIELD(const real*, mask)      /* [B, 1, H, W] */ \
    FIELD(const real*, window)    /* [TAPS] */ \
    FIELD(real*, grey)            /* [B, 2, H, W] */ \
    FIELD(real*, row_sums)        /* [B, 5, H, W] */ \
    FIELD(real*, partial)         /* [B, 4, H + 2 EDGE, W + 2 EDGE] */ \
    FIELD(real*, row_partial)     /* [B, 3, H, W + 2 EDGE] or null */ \
    FIELD(real*, sums)            /* [B, S, 4] */ \
    FIELD(const real*, grad_sums) /* [B, 3] */ \
    FIELD(real*, grad_image)      /* [B, 3, H, W] */ \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, slots) \
    FIELD(int64, view) \
    FIELD(double, ssim_c1) \
    FIELD(double, ssim_c2)
ARGUMENTS(ImageLossArguments, IMAGE_LOSS_FIELDS)

// See hole_filling.cu.
#define HOLE_FILLING_FIELDS(FIELD) \
    FIELD(ConstLevels, image)        /* [B, C, H_l, W_l] */ \
    FIELD(ConstLevels, weight)       /* [B, 1, H_l, W_l] */ \
    FIELD(ConstLevels, depth)        /* [B, 1, H_l, W_l] */ \
    FIELD(ConstLevels, background)   /* [B, 3, H_l, W_l] or null */ \
    FIELD(ConstLevels, padded_depth) /* [B, 1, H_l + 2 REACH, W_l + 2 REACH] */ \
    FIELD(Levels, colours)           /* [B, 3, H_l, W_l] */ \
    FIELD(Levels, valid)             /* [B, 1, H_l, W_l] */ \
    FIELD(Levels, occlusion)         /* [B, 1, H_l, W_l] */ \
    FIELD(Levels, surface)           /* [B, 1, H_l, W_l] */ \
    FIELD(Levels, resampled_rows)    /* [B, 3, H_l, .] */ \
    FIELD(ConstLevels, grad_colours) /* [B, 3, H_l, W_l] */ \
    FIELD(Levels, grad_image)        /* [B, C, H_l, W_l] */ \
    FIELD(Levels, grad_background)   /* [B, 3, H_l, W_l] or null */ \
    FIELD(Levels, grad_upsampled)    /* [B, 3, H_l, W_l] */ \
    FIELD(int64, views) \
    FIELD(int64, channels) \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, levels) \
    FIELD(int64, fill_levels) \
    FIELD(int64, occlusion_levels) \
    FIELD(int64, level) \
    FIELD(double, tolerance)
ARGUMENTS(HoleFillingArguments, HOLE_FILLING_FIELDS)

// See renderer.cu. M input channels of a level, O outputs.
#define RENDERER_FIELDS(FIELD) \
    FIELD(ConstLevels, image)         /* [B, C, H_l, W_l] */ \
    FIELD(ConstLevels, valid)         /* [B, 1, H_l, W_l] */ \
    FIELD(ConstLevels, occlusion)     /* [B, 1, H_l, W_l] */ \
    FIELD(ConstLevels, colours)       /* [B, 3, H_l, W_l] */ \
    FIELD(Levels, inputs)             /* [B, M, H_l, W_l], or [B, H_l, W_l, M] */ \
    FIELD(ConstLevels, grad_inputs)   /* the same */ \
    FIELD(Levels, grad_image)         /* [B, C, H_l, W_l] */ \
    FIELD(Levels, grad_colours)       /* [B, 3, H_l, W_l] */ \
    FIELD(const real*, brightness)    /* [B] */ \
    FIELD(const real*, shown)         /* [B, 8, H, W] or null */ \
    FIELD(const real*, outputs)       /* [B, O, H, W] */ \
    FIELD(real*, radiance)            /* [B, 3, H, W] */ \
    FIELD(const real*, grad_radiance) /* [B, 3, H, W] */ \
    FIELD(real*, grad_outputs)        /* [B, O, H, W] */ \
    FIELD(int64, channels) \
    FIELD(int64, input_channels)      /* M of the level at hand */ \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, level) \
    FIELD(int64, view) \
    FIELD(int64, joined)              /* whether the inputs have the difference of valid and occlusion, or both */ \
    FIELD(int64, channel_step)        /* from one input channel of a pixel to the next, */ \
    FIELD(int64, pixel_step)          /* and from one pixel to the next */
ARGUMENTS(RendererArguments, RENDERER_FIELDS)

// The rays of views, see rays.h.
#define RAY_FIELDS(FIELD) \
    FIELD(const real*, local)           /* [B, 3, rows, columns] directions in camera space, evenly from corner to corner */ \
    FIELD(const real*, world_to_camera) /* [B, 4, 4] */ \
    FIELD(const real*, crop)            /* [B, 3] zoom and offset on the full photo */ \
    FIELD(const real*, photo_size)      /* [B, 2] width and height of the full photo */ \
    FIELD(int64, rows) \
    FIELD(int64, columns)
ARGUMENTS(RayArguments, RAY_FIELDS)

// See environment.cu.
#define ENVIRONMENT_FIELDS(FIELD) \
    FIELD(RayArguments, rays) \
    FIELD(ConstLevels, image)             /* [B, C, H_l, W_l] */ \
    FIELD(ConstLevels, weight)            /* [B, 1, H_l, W_l] */ \
    FIELD(Levels, composite)              /* [B, C, H_l, W_l] */ \
    FIELD(Levels, coordinates)            /* [B, 2, H_l, W_l] */ \
    FIELD(ConstLevels, grad_composite)    /* [B, C, H_l, W_l] */ \
    FIELD(Levels, grad_image)             /* [B, C, H_l, W_l] */ \
    FIELD(const real*, texels)            /* [map_rows << mip_level, map_columns << mip_level, C] */ \
    FIELD(real*, grad_texels)             /* the same */ \
    FIELD(int64, channels) \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, map_rows) \
    FIELD(int64, map_columns) \
    FIELD(int64, mip_level) \
    FIELD(int64, level) \
    FIELD(int64, view)
ARGUMENTS(EnvironmentArguments, ENVIRONMENT_FIELDS)

// See crops.cu.
#define CROP_FIELDS(FIELD) \
    FIELD(const byte*, photos)   /* of each photo [H, W, 3] */ \
    FIELD(const byte*, masks)    /* of each mask [H, W]; or null */ \
    FIELD(const int64*, windows) /* [B, 6] */ \
    FIELD(int*, first)           /* [B, side] */ \
    FIELD(int*, weights)         /* [B, taps, side] */ \
    FIELD(byte*, rows)           /* [B, 4, rows_kept, side] */ \
    FIELD(real*, target)         /* [B, 3, side, side] */ \
    FIELD(real*, mask)           /* [B, 1, side, side] */ \
    FIELD(int64, views) \
    FIELD(int64, side) \
    FIELD(int64, taps) \
    FIELD(int64, rows_kept)
ARGUMENTS(CropArguments, CROP_FIELDS)

// See reproject.cu. P photos, K chosen for each view, L lenses.
#define REPROJECT_FIELDS(FIELD) \
    FIELD(CameraArguments, camera)   /* of the P photos, their pixels those that are kept */ \
    FIELD(RayArguments, rays)        /* of the views */ \
    FIELD(const real*, depth)        /* [B, 1, H, W] depth; infinite where no surface is */ \
    FIELD(const int64*, chosen)      /* [B, K] photo, or -1 */ \
    FIELD(const byte*, pixels)       /* of each photo [h, w, 3] */ \
    FIELD(const real*, surfaces)     /* of each photo [ceil(h / 2), ceil(w / 2)] depth */ \
    FIELD(const int64*, places)      /* [P, 5] where its pixels and surfaces begin, w, h, its lens */ \
    FIELD(const real*, curve)        /* [L, 3, 256] logarithm of the light that a value stands for */ \
    FIELD(const real*, gain)         /* [P, 3] logarithm of what the camera multiplies light by */ \
    FIELD(const real*, vignette)     /* [L, 5] coefficients of r2, r4, r6 and the centre, in half diagonals */ \
    FIELD(real*, scratch)            /* [B, 13, H, W] */ \
    FIELD(real*, shown)              /* [B, 8, H, W] */ \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, chosen_count) \
    FIELD(int64, depth_along_axis)   /* whether the views' depth is along their axis, or the distance */ \
    FIELD(int64, view) \
    FIELD(double, tolerance)         /* share of its depth by which a surface may differ */ \
    FIELD(double, far)               /* distance of what is infinitely far, scene units */
ARGUMENTS(ReprojectArguments, REPROJECT_FIELDS)

// See patch_match.cu.
#define PATCH_MATCH_FIELDS(FIELD) \
    FIELD(ConstLevels, sources)         /* of each source [h, w] */ \
    FIELD(ConstLevels, source_planes)   /* of each source [3, h, w] or null */ \
    FIELD(const real*, image)           /* [H, W] */ \
    FIELD(const real*, forward)         /* [S, 3, 4] */ \
    FIELD(const real*, backward)        /* [S, 3, 4] */ \
    FIELD(const int64*, source_sizes)   /* [S, 2] width and height */ \
    FIELD(real*, planes)                /* [3, H, W] */ \
    FIELD(real*, costs)                 /* [H, W] */ \
    FIELD(int64, width) \
    FIELD(int64, height) \
    FIELD(int64, source_count) \
    FIELD(int64, sources_kept)          /* of which the mean cost is taken, at most MAX_SOURCES_KEPT */ \
    FIELD(int64, colour)                /* 0 or 1: x + y of the pixels that a sweep changes, modulo 2 */ \
    FIELD(int64, sweep)                 /* the number of the sweep: each has its own random numbers */ \
    FIELD(double, min_inverse) \
    FIELD(double, max_inverse) \
    FIELD(double, max_slope)            /* of inverse depth, relative to it, per pixel */ \
    FIELD(double, perturbation)         /* relative to inverse depth and max_slope */ \
    FIELD(double, value_spread)         /* difference in brightness at which a sample counts a 16th */ \
    FIELD(double, min_seen)             /* share of a patch that the source must show */ \
    FIELD(double, min_variance) \
    FIELD(double, shift_weight)         /* cost per pixel by which a source's plane disagrees */ \
    FIELD(double, max_shift)            /* pixels */
ARGUMENTS(PatchMatchArguments, PATCH_MATCH_FIELDS)
// clang-format on
