// The one argument of every kernel. Pointers, 64-bit integers and doubles only, so that its layout is the same for
// every compiler and for `adop/ops/launch.py`, which fills it. Unused pointers are null.
//
// B views, N points, K blocks, C channels, L levels, S slots, G = PARAMETERS; level l is H_l x W_l.
#pragma once
#include "portable.h"

#define MAX_LEVELS 12
#define STEPS 16
#define PARAMETERS 36  // gradients of one view: 12 of the pose's upper rows, 4 intrinsics, up to 20 distortion
enum Model { OPENCV = 0, FISHEYE = 1, OCAM = 2 };

struct Arguments {
    // Cameras
    const real* world_to_camera;  // [B, 4, 4]
    const real* intrinsics;       // [B, 4]
    const real* distortion;       // [B, D]
    const real* crop;             // [B, 3] zoom, offset
    const real* shutter;          // [B, 7] motion between the first and the last row, rows of the whole photo; or null
    real* limit;                  // [B] largest field radius
    real* bounds;                 // [B, 4] what a block must touch to be seen: x0 x1 y0 y1 of x/z and y/z, or the cone
    const real* field;            // [1025] field radii at which a lens is searched, from 0
    int64 views, width, height, distortion_size;
    double near_depth;
    // Points
    const real* xyz;           // [N, 3]
    const real* radius;        // [N]
    const real* normals;       // [N, 3] or null
    const real* block_lower;   // [K, 3]
    const real* block_upper;   // [K, 3]
    const real* block_radius;  // [K, STEPS] the first radius of each of STEPS equal parts
    const byte* block_falling; // [K]
    int* visit;                // [B, K] how many points of a block to visit, from its first
    int64 points, block_size, blocks;
    // Projected points
    real* uv;         // [B, N, 2]
    real* z;          // [B, N]
    real* radius_px;  // [B, N]
    byte* visible;    // [B, N]
    // Pyramid
    const real* features;  // [N, C]
    const byte* ghosts;    // [B, N] or null
    real* image[MAX_LEVELS];             // [B, C, H_l, W_l]
    real* weight[MAX_LEVELS];            // [B, 1, H_l, W_l]
    real* depth[MAX_LEVELS];             // [B, 1, H_l, W_l]
    const real* background[MAX_LEVELS];  // [C] or [B, C, H_l, W_l]
    int64 channels, levels, background_full, bilinear;
    double depth_tolerance, radius_threshold;
    // Gradients
    const real* grad_image[MAX_LEVELS];  // [B, C, H_l, W_l]
    real* grad_features;                 // [N, C]
    real* grad_uv;                       // [B, N, 2]
    real* grad_z;                        // [B, N]
    real* grad_xyz;                      // [N, 3]
    real* grad_parameters;               // [B, S, G]
    int64 slots, view, level;
    // Hits of the CPU's band order, see bands.h
    void* hits;      // [capacity] Hit
    int64* offsets;  // [B, bins + 1, chunks]
    int64 chunks, band_rows;
    // Sparse Adam
    real* parameter;  // [N, C]
    const real* gradient;
    real* average;
    real* square;
    int* steps;  // [N]
    double rate, beta1, beta2, epsilon;
    // The physical camera
    const real* radiance;    // [B, 3, H, W]
    const real* gain;        // [B, 3]
    const real* curve;       // [B, 3, K]
    const real* vignette;    // [B, 5] a b c and centre
    const real* photo_size;  // [B, 2] width and height of the whole photo
    real* photo;             // [B, 3, H, W]
    const real* grad_photo;
    real* grad_radiance;
    real* places;  // [B, 3, H, W]
    real* slopes;  // [B, 3, H, W]
    real* sums;  // [B, S, .] what a kernel adds up, slot by slot
    int64 samples;
    double leak;
    // A picture beside a photo, see compare.cu
    const real* picture;   // [B, 3, H, W]
    const real* target;    // [B, 3, H, W]
    const real* mask;      // [B, 1, H, W]
    const real* window;    // [TAPS]
    real* grey;            // [B, 2, H, W]
    real* row_sums;        // [B, 5, H, W]
    real* partial;         // [B, 4, H + 2 E, W + 2 E]
    real* row_partial;     // [B, 3, H, W + 2 E]
    const real* grad_sums;
    real* grad_picture;    // [B, 3, H, W]
    double stable1, stable2;
    // The base picture, see base.cu
    real* colours[MAX_LEVELS];             // [B, 3, H_l, W_l]
    real* valid[MAX_LEVELS];               // [B, 1, H_l, W_l]
    real* behind[MAX_LEVELS];              // [B, 1, H_l, W_l]
    real* surface[MAX_LEVELS];             // [B, 1, H_l, W_l]
    const real* padded[MAX_LEVELS];        // [B, 1, H_l + 4, W_l + 4]
    real* half_way[MAX_LEVELS];            // [B, 3, H_l, .]
    const real* grad_colours[MAX_LEVELS];  // [B, 3, H_l, W_l]
    real* grad_shown[MAX_LEVELS];          // [B, C, H_l, W_l]
    real* grad_behind[MAX_LEVELS];         // [B, 3, H_l, W_l] or null
    real* passed[MAX_LEVELS];              // [B, 3, H_l, W_l]
    int64 fill_levels, occlusion_levels;
    double occlusion_tolerance;
    // What lies behind the points, see behind.cu
    const real* texels;             // [map_rows << blur, map_columns << blur, C]
    real* grad_texels;              // the same
    const real* rays;               // [B, 3, ray_rows, ray_columns]
    real* shown[MAX_LEVELS];        // [B, C, H_l, W_l]
    real* coordinates[MAX_LEVELS];  // [B, 2, H_l, W_l]
    int64 map_rows, map_columns, blur, ray_rows, ray_columns;
};
