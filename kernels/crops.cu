// Entry points of training crops: square windows of photos, scaled to one size by a triangle filter, which is widened
// where a window shrinks. The arithmetic is that of Pillow's Image.resize with BILINEAR: weights of PRECISION bits, and
// bytes after each of the two passes, first along the rows, then along the columns.
//
// photos: bytes [H, W, 3] of every photo, one after the other; masks: bytes [H, W], 255 where a photo counts, else 0.
// windows [B, 6]: where photo and mask begin (-1: no mask), the photo's width, then x, y and side of the window.
// first [B, S], weights [B, taps, S]: the filter of each output pixel, along rows and columns alike, from the first
// pixel of the window under it. rows [B, 4, R, S]: red, green, blue and mask after the first pass, R the longest
// window. target [B, 3, S, S], mask [B, 1, S, S]. One index is an output pixel of `first`, `rows` and `mask` in turn.
#include "arguments.h"

#define PRECISION 22
#define COUNTED 252  // least value of a scaled mask that counts, less 1: a masked pixel under the filter shows

struct Window {
    int64 photo, mask, width, x, y, side;
};
DEVICE Window window_of(const CropArguments& args, int64 view) {
    const int64* w = args.windows + 6 * view;
    return {w[0], w[1], w[2], w[3], w[4], w[5]};
}

DEVICE double triangle(double x) {
    const double distance = x < 0 ? -x : x;
    return distance < 1 ? 1 - distance : 0;
}

KERNEL(crop_weights, CropArguments) {
    const int64 side = args.side, taps = args.taps;
    FOR_EACH (i, args.views * side) {
        const int64 view = i / side, out = i - view * side, source = window_of(args, view).side;
        const double scale = (double)source / (double)side, reach = scale < 1 ? 1 : scale, slope = 1 / reach;
        const double centre = ((double)out + 0.5) * scale;
        const int64 low = (int64)(centre - reach + 0.5), high = (int64)(centre + reach + 0.5);
        const int64 first = low < 0 ? 0 : low, end = high < source ? high : source;
        double sum = 0;
        for (int64 j = first; j < end; ++j) sum += triangle(((double)j - centre + 0.5) * slope);
        args.first[i] = (int)first;
        for (int64 k = 0; k < taps; ++k) {
            const double weight = first + k < end ? triangle(((double)(first + k) - centre + 0.5) * slope) / sum : 0;
            args.weights[(view * taps + k) * side + out] = (int)(0.5 + weight * (1 << PRECISION));
        }
    }
}

KERNEL(crop_rows, CropArguments) {
    const int64 side = args.side, taps = args.taps, plane = args.rows_kept * side;
    FOR_EACH_PIXEL (x, row, side, args.views * args.rows_kept) {
        const int64 view = row / args.rows_kept, y = row - view * args.rows_kept;
        const Window window = window_of(args, view);
        if (y >= window.side) continue;
        const int64 start = (window.y + y) * window.width + window.x;
        const byte* photo = args.photos + window.photo + 3 * start;
        const int first = args.first[view * side + x], last = (int)window.side - 1;
        const int* weights = args.weights + view * taps * side + x;
        int red = 1 << (PRECISION - 1), green = red, blue = red, counted = red;
        for (int64 k = 0; k < taps; ++k) {
            const int column = first + (int)k < last ? first + (int)k : last, weight = weights[k * side];
            red += weight * photo[3 * column];
            green += weight * photo[3 * column + 1];
            blue += weight * photo[3 * column + 2];
            if (window.mask >= 0) counted += weight * args.masks[window.mask + start + column];
        }
        byte* out = args.rows + 4 * view * plane + y * side + x;
        out[0] = (byte)(red >> PRECISION), out[plane] = (byte)(green >> PRECISION);
        out[2 * plane] = (byte)(blue >> PRECISION), out[3 * plane] = (byte)(counted >> PRECISION);
    }
}

KERNEL(crop_columns, CropArguments) {
    const int64 side = args.side, taps = args.taps, plane = args.rows_kept * side;
    FOR_EACH_PIXEL (x, row, side, args.views * side) {
        const int64 view = row / side, y = row - view * side;
        const Window window = window_of(args, view);
        const byte* in = args.rows + 4 * view * plane + x;
        const int64 first = args.first[row], last = window.side - 1;
        const int* weights = args.weights + view * taps * side + y;
        int red = 1 << (PRECISION - 1), green = red, blue = red, counted = red;
        for (int64 k = 0; k < taps; ++k) {
            const int64 at = (first + k < last ? first + k : last) * side;
            const int weight = weights[k * side];
            red += weight * in[at], green += weight * in[plane + at];
            blue += weight * in[2 * plane + at], counted += weight * in[3 * plane + at];
        }
        real* target = args.target + 3 * view * side * side + y * side + x;
        target[0] = (real)(red >> PRECISION) / 255;
        target[side * side] = (real)(green >> PRECISION) / 255;
        target[2 * side * side] = (real)(blue >> PRECISION) / 255;
        args.mask[row * side + x] = window.mask < 0 || (counted >> PRECISION) > COUNTED ? 1 : 0;
    }
}
