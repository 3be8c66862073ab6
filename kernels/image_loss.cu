// Entry points of the image loss: absolute and squared error and structural dissimilarity (1 - SSIM) of the mean of the
// channels, between an image and a photo; and the exact adjoint of all three.
//
// image, target, grad_image: [B, 3, H, W]; mask [B, 1, H, W]; window [TAPS]; grey [B, 2, H, W] of both.
// row_sums [B, 5, H, W]: x, y, xx, yy, xy under the window along a row. partial [B, 4, H + 2 E, W + 2 E], E = TAPS - 1,
// zero around its inner H x W: the derivatives of the dissimilarity by windowed x, xx and xy, then the dissimilarity.
// row_partial [B, 3, H, W + 2 E]: the first three under the window along a column. One index is one pixel of a view.
#include "arguments.h"

#define TAPS 11
#define EDGE (TAPS - 1)

KERNEL(image_loss_pixels, ImageLossArguments) {
    const int64 view = args.view, plane = args.width * args.height;
    real* slot = args.sums + (view * args.slots + SLOT(args.slots)) * 4;
    real absolute = 0, squared = 0, clamped = 0, counted = 0;
    const real *images = args.image + 3 * view * plane, *targets = args.target + 3 * view * plane;
    const real* masks = args.mask + view * plane;
    real *greys = args.grey + 2 * view * plane, *target_greys = greys + plane;
    FOR_EACH_PIXEL_SUM (x, y, args.width, args.height, absolute, squared, clamped, counted) {
        const int64 i = y * args.width + x;
        const real mask = masks[i];
        real grey = 0, target_grey = 0;
        UNROLL
        for (int c = 0; c < 3; ++c) {
            const real value = images[c * plane + i], expected = targets[c * plane + i], error = value - expected;
            const real clipped = value < 0 ? 0 : value > 1 ? 1 : value;
            absolute += abs(error) * mask, squared += error * error * mask;
            clamped += (clipped - expected) * (clipped - expected) * mask;
            grey += value, target_grey += expected;
        }
        counted += mask;
        greys[i] = grey / 3, target_greys[i] = target_grey / 3;
    }
    add_to_slot(slot, absolute), add_to_slot(slot + 1, squared);
    add_to_slot(slot + 2, clamped), add_to_slot(slot + 3, counted);
}

// Where the window lies inside the image.
KERNEL(image_loss_rows, ImageLossArguments) {
    const int64 plane = args.width * args.height;
    const real *grey = args.grey + 2 * args.view * plane, *target = grey + plane;
    real* out = args.row_sums + 5 * args.view * plane;
    FOR_EACH_PIXEL (x, y, args.width - EDGE, args.height) {
        const int64 i = y * args.width + x;
        real a = 0, b = 0, aa = 0, bb = 0, ab = 0;
        UNROLL
        for (int k = 0; k < TAPS; ++k) {
            const real p = grey[i + k], q = target[i + k], w = args.window[k];
            a += w * p, b += w * q, aa += w * (p * p), bb += w * (q * q), ab += w * (p * q);
        }
        out[i] = a, out[plane + i] = b, out[2 * plane + i] = aa, out[3 * plane + i] = bb, out[4 * plane + i] = ab;
    }
}

KERNEL(image_loss_columns, ImageLossArguments) {
    const int64 plane = args.width * args.height, columns = args.width + 2 * EDGE;
    const int64 padded = columns * (args.height + 2 * EDGE);
    const real* in = args.row_sums + 5 * args.view * plane;
    const real* mask = args.mask + args.view * plane + EDGE / 2 * (args.width + 1);
    real* out = args.partial + 4 * args.view * padded + EDGE * (columns + 1);
    const real c1 = (real)args.ssim_c1, c2 = (real)args.ssim_c2;
    FOR_EACH_PIXEL (x, y, args.width - EDGE, args.height - EDGE) {
        const int64 i = y * args.width + x, at = y * columns + x;
        real a = 0, b = 0, aa = 0, bb = 0, ab = 0;
        UNROLL
        for (int k = 0; k < TAPS; ++k) {
            const int64 j = i + k * args.width;
            const real w = args.window[k];
            a += w * in[j], b += w * in[plane + j], aa += w * in[2 * plane + j];
            bb += w * in[3 * plane + j], ab += w * in[4 * plane + j];
        }
        const real means = a * a + b * b + c1, spreads = aa - a * a + bb - b * b + c2;
        const real luminance = (2 * a * b + c1) / means, structure = (2 * (ab - a * b) + c2) / spreads;
        const real weight = -mask[i];
        out[at] =
            weight * (2 * (b - luminance * a) / means * structure + 2 * luminance * (structure * a - b) / spreads);
        out[padded + at] = -weight * luminance * structure / spreads;
        out[2 * padded + at] = weight * 2 * luminance / spreads;
        out[3 * padded + at] = (luminance * structure - 1) * weight;
    }
}

KERNEL(image_loss_columns_backward, ImageLossArguments) {
    const int64 columns = args.width + 2 * EDGE, padded = columns * (args.height + 2 * EDGE);
    const int64 plane = columns * args.height;
    const real* in = args.partial + 4 * args.view * padded + EDGE * columns;
    real* out = args.row_partial + 3 * args.view * plane;
    FOR_EACH_PIXEL (x, y, columns, args.height) {
        const int64 i = y * columns + x;
        real a = 0, aa = 0, ab = 0;
        UNROLL
        for (int k = 0; k < TAPS; ++k) {
            const real* row = in + i - k * columns;
            const real w = args.window[k];
            a += w * row[0], aa += w * row[padded], ab += w * row[2 * padded];
        }
        out[i] = a, out[plane + i] = aa, out[2 * plane + i] = ab;
    }
}

template <bool STRUCTURE>
DEVICE void error_gradient(const ImageLossArguments& args) {
    const int64 plane = args.width * args.height, columns = args.width + 2 * EDGE, wide = columns * args.height;
    const real *grey = args.grey + 2 * args.view * plane, *target_grey = grey + plane;
    const real* in = STRUCTURE ? args.row_partial + 3 * args.view * wide + EDGE : nullptr;
    const real* grad_sums = args.grad_sums + 3 * args.view;
    const real absolute = grad_sums[0], squared = 2 * grad_sums[1], dissimilar = grad_sums[2] / 3;
    const real *image = args.image + 3 * args.view * plane, *target = args.target + 3 * args.view * plane;
    const real* mask = args.mask + args.view * plane;
    real* out = args.grad_image + 3 * args.view * plane;
    FOR_EACH_PIXEL (x, y, args.width, args.height) {
        const int64 i = y * args.width + x;
        real common = 0;
        if (STRUCTURE) {
            real a = 0, aa = 0, ab = 0;
            const int64 at = y * columns + x;
            UNROLL
            for (int k = 0; k < TAPS; ++k) {
                const real w = args.window[k];
                a += w * in[at - k], aa += w * in[wide + at - k], ab += w * in[2 * wide + at - k];
            }
            common = dissimilar * (a + 2 * grey[i] * aa + target_grey[i] * ab);
        }
        UNROLL
        for (int c = 0; c < 3; ++c) {
            const real error = image[c * plane + i] - target[c * plane + i];
            const real sign = error > 0 ? (real)1 : error < 0 ? (real)-1 : (real)0;
            out[c * plane + i] = common + mask[i] * (absolute * sign + squared * error);
        }
    }
}

// grad_sums [B, 3]: the gradients of absolute and squared error and of the dissimilarity.
KERNEL(image_loss_rows_backward, ImageLossArguments) {
    if (args.row_partial != nullptr) error_gradient<true>(args);
    else error_gradient<false>(args);
}
