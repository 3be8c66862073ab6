// The layout of every argument struct as the C++ compiler sees it, for Python to compare with its own. CPU only.
#pragma once
#include <cstddef>

#include "arguments.h"

struct FieldLayout {
    const char* name;
    int64 offset, size;
    char kind;  // p pointer or pointers, i integer, d double, s struct
};

template <class Type>
struct FieldKind {
    static const char value = 's';
};
template <class Type>
struct FieldKind<Type*> {
    static const char value = 'p';
};
template <class Type, size_t COUNT>
struct FieldKind<Type* [COUNT]> { static const char value = 'p'; };
template <>
struct FieldKind<int64> {
    static const char value = 'i';
};
template <>
struct FieldKind<double> {
    static const char value = 'd';
};

#define DESCRIBE_FIELD(type, name) \
    {#name, (int64)offsetof(Described, name), (int64)sizeof(Described::name), FieldKind<type>::value},

// adop_layout_<Structure> returns its fields in order and ends the list with a field without a name.
#define DESCRIBE(Structure, FIELDS)                                                                       \
    extern "C" const FieldLayout* adop_layout_##Structure() {                                             \
        typedef Structure Described;                                                                      \
        static const FieldLayout fields[] = {FIELDS(DESCRIBE_FIELD){nullptr, 0, sizeof(Structure), 's'}}; \
        return fields;                                                                                    \
    }

DESCRIBE(CameraArguments, CAMERA_FIELDS)
DESCRIBE(PointArguments, POINT_FIELDS)
DESCRIBE(BlockArguments, BLOCK_FIELDS)
DESCRIBE(ProjectedArguments, PROJECTED_FIELDS)
DESCRIBE(PyramidArguments, PYRAMID_FIELDS)
DESCRIBE(PyramidGradientArguments, PYRAMID_GRADIENT_FIELDS)
DESCRIBE(HitArguments, HIT_FIELDS)
DESCRIBE(BandArguments, BAND_FIELDS)
DESCRIBE(LensArguments, LENS_FIELDS)
DESCRIBE(CullArguments, CULL_FIELDS)
DESCRIBE(ProjectArguments, PROJECT_FIELDS)
DESCRIBE(RasterizeArguments, RASTERIZE_FIELDS)
DESCRIBE(DrawArguments, DRAW_FIELDS)
DESCRIBE(SparseAdamArguments, SPARSE_ADAM_FIELDS)
DESCRIBE(TonemapArguments, TONEMAP_FIELDS)
DESCRIBE(ImageLossArguments, IMAGE_LOSS_FIELDS)
DESCRIBE(HoleFillingArguments, HOLE_FILLING_FIELDS)
DESCRIBE(RendererArguments, RENDERER_FIELDS)
DESCRIBE(RayArguments, RAY_FIELDS)
DESCRIBE(EnvironmentArguments, ENVIRONMENT_FIELDS)
DESCRIBE(CropArguments, CROP_FIELDS)
DESCRIBE(ReprojectArguments, REPROJECT_FIELDS)
DESCRIBE(PatchMatchArguments, PATCH_MATCH_FIELDS)
