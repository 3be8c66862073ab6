// Sizes of pyramid levels.
#pragma once
#include "portable.h"

// ceil(size / 2^level)
DEVICE int level_extent(int64 size, int level) {
    return level < 0 ? 0 : (int)((size + ((int64)1 << level) - 1) >> level);
}
