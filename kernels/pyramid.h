// Sizes of pyramid levels.
#pragma once
#include "portable.h"

// ceil(size / 2^level)
DEVICE int level_extent(int64 size, int level) {
    return level < 0 ? 0 : (int)((size + ((int64)1 << level) - 1) >> level);
}

// The pixels of a level, for arguments with the width and height of the finest one.
struct Size {
    int columns, rows;
    int64 plane;
};
template <class Arguments>
DEVICE Size size_of(const Arguments& args, int level) {
    Size size = {level_extent(args.width, level), level_extent(args.height, level), 0};
    size.plane = (int64)size.columns * size.rows;
    return size;
}
