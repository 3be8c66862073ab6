// Entry points of the physical camera: radiance becomes a photo, and the exact adjoint.
//
// radiance, photo, grad_photo, grad_radiance: [B, 3, H, W]. gain [B, 3]; curve [B, 3, K] samples of the response over
// evenly spaced sRGB-encoded light; vignette [B, 5] a b c and centre, or null; photo_size [B, 2]; crop [B, 3].
// sums [B, S, 3 + 5 + 3 K]: gradients of gain, vignette and curve. One index is one pixel of a view, row by row.
#include "arguments.h"

struct Falloff {
    real x, y, r2, factor;
};

// The vignette at a pixel, in half diagonals of the whole photo from the vignette's centre.
DEVICE Falloff find_falloff(const Arguments& args, int64 view, int64 x, int64 y) {
    Falloff f = {0, 0, 0, 1};
    if (args.vignette == nullptr) return f;
    const real *v = args.vignette + 5 * view, *crop = args.crop + 3 * view, *size = args.photo_size + 2 * view;
    const real half = sqrt(size[0] * size[0] + size[1] * size[1]) / 2;
    f.x = (((real)x + (real)0.5 + crop[1]) / crop[0] - size[0] / 2) / half - v[3];
    f.y = (((real)y + (real)0.5 + crop[2]) / crop[0] - size[1] / 2) / half - v[4];
    f.r2 = f.x * f.x + f.y * f.y;
    f.factor = 1 + f.r2 * (v[0] + f.r2 * (v[1] + f.r2 * v[2]));
    return f;
}

// sRGB encoding of light within 0 and 1, and its slope.
DEVICE real encode(real light, real* slope) {
    if (light <= (real)0.0031308) {
        *slope = (real)12.92;
        return (real)12.92 * light;
    }
    const real power = (real)1.055 * pow(light, (real)(1 / 2.4));
    *slope = power / (light * (real)2.4);
    return power - (real)0.055;
}

// Where light falls on the response: between samples `below` and `below + 1`, `part` of the way; d part / d light.
struct Place {
    int below;
    real part, slope;
};
DEVICE Place find_place(const Arguments& args, real light) {
    const real clipped = light < 0 ? 0 : light > 1 ? 1 : light;
    Place place;
    const int last = (int)args.samples - 1;
    const real encoded = encode(clipped, &place.slope) * last;
    place.below = encoded >= last ? last - 1 : (int)encoded;
    place.part = encoded - place.below;
    place.slope = light < 0 || light > 1 ? 0 : place.slope * last;
    return place;
}

KERNEL(photo_forward) {
    const int64 view = args.view, plane = args.width * args.height;
    FOR_EACH_PIXEL(x, y, args.width, args.height) {
        const real factor = find_falloff(args, view, x, y).factor;
        for (int64 c = 3 * view; c < 3 * view + 3; ++c) {
            const int64 i = c * plane + y * args.width + x;
            const real light = args.radiance[i] * args.gain[c] * factor;
            const Place place = find_place(args, light);
            const real* curve = args.curve + c * args.samples + place.below;
            real value = curve[0] + (curve[1] - curve[0]) * place.part;
            if (light < 0) value += (real)args.leak * light;
            if (light > 1) value += (real)args.leak * (1 - 1 / sqrt(light));
            args.photo[i] = value;
        }
    }
}

KERNEL(photo_backward) {
    const int64 view = args.view, plane = args.width * args.height, columns = 8 + 3 * args.samples;
    real* slot = args.sums + (view * args.slots + SLOT(args.slots)) * columns;
    real g[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    FOR_EACH_PIXEL(x, y, args.width, args.height) {
        const Falloff f = find_falloff(args, view, x, y);
        real along = 0;  // gradient of the vignette's factor
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const int64 i = (3 * view + c) * plane + y * args.width + x;
            const real gain = args.gain[3 * view + c], radiance = args.radiance[i], grad = args.grad_photo[i];
            const real light = radiance * gain * f.factor;
            const Place place = find_place(args, light);
            const real* curve = args.curve + (3 * view + c) * args.samples + place.below;
            real slope = (curve[1] - curve[0]) * place.slope;
            if (light < 0) slope += (real)args.leak;
            if (light > 1) slope += (real)args.leak / (2 * light * sqrt(light));
            const real felt = grad * slope;
            args.grad_radiance[i] = felt * gain * f.factor;
            g[c] += felt * radiance * f.factor;
            along += felt * radiance * gain;
            real* sample = slot + 8 + c * args.samples + place.below;
            add_to_slot(sample, grad * (1 - place.part)), add_to_slot(sample + 1, grad * place.part);
        }
        if (args.vignette == nullptr) continue;
        const real* v = args.vignette + 5 * view;
        const real outward = -2 * along * (v[0] + f.r2 * (2 * v[1] + f.r2 * 3 * v[2]));
        g[3] += along * f.r2, g[4] += along * f.r2 * f.r2, g[5] += along * f.r2 * f.r2 * f.r2;
        g[6] += outward * f.x, g[7] += outward * f.y;
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) add_to_slot(slot + j, g[j]);
}
