// Entry points of the tonemapper, a physical camera: radiance becomes a photo; and the exact adjoint.
//
// radiance, photo, grad_photo, grad_radiance: [B, 3, H, W]. gain [B, 3]; curve [B, 3, K] samples of the response over
// evenly spaced sRGB-encoded light; vignette [B, 5] coefficients a b c and centre; photo_size [B, 2]; crop [B, 3].
// positions, slopes [B, 3, H, W]: scratch for the light's position on the response. sums [B, S, 3 + 5 + 3 K]: gradients
// of gain, vignette and curve. One index is one pixel of a view, row by row.
#include "arguments.h"
#include "functions.h"

// Vignetting: from a pixel to its position on the full photo, in half diagonals from the vignette's centre.
struct Vignette {
    real scale, shift_x, shift_y, a, b, c;
};
DEVICE Vignette load_vignette(const TonemapArguments& args, int64 view) {
    const real *v = args.vignette + 5 * view, *crop = args.crop + 3 * view, *size = args.photo_size + 2 * view;
    const real half = sqrt(size[0] * size[0] + size[1] * size[1]) / 2, scale = 1 / (crop[0] * half);
    return {scale,
            ((real)0.5 + crop[1]) * scale - size[0] / 2 / half - v[3],
            ((real)0.5 + crop[2]) * scale - size[1] / 2 / half - v[4],
            v[0],
            v[1],
            v[2]};
}
DEVICE real factor_of(const Vignette& f, real r2) { return 1 + r2 * (f.a + r2 * (f.b + r2 * f.c)); }

// The sRGB encoding of light between 0 and 1, and its slope, both times the number of steps between the response's
// samples.
DEVICE real encode(real light, real steps, real* slope) {
    const bool dark = light <= (real)0.0031308;
    const real bright = dark ? (real)0.0031308 : light;
    const real power = (real)1.055 * exp_of(log_of(bright) * (real)(1 / 2.4));
    *slope = (dark ? (real)12.92 : power / (bright * (real)2.4)) * steps;
    return (dark ? (real)12.92 * light : power - (real)0.055) * steps;
}

// The position of light on the response, in samples, and its derivative by light.
DEVICE real response_position(real light, int samples, real* slope) {
    const real clipped = light < 0 ? 0 : light > 1 ? 1 : light;
    const real position = encode(clipped, (real)(samples - 1), slope);
    *slope = light < 0 || light > 1 ? 0 : *slope;
    return position + (clipped - clipped);  // NaN stays NaN, which the encoding does not ensure
}
// The sample below a position of at least 0; beyond the last step, and for NaN, that below the last sample.
DEVICE int sample_below(real position, int samples) { return position < samples - 2 ? (int)position : samples - 2; }

KERNEL(tonemap_forward, TonemapArguments) {
    const int64 view = args.view, plane = args.width * args.height;
    const int samples = (int)args.samples;
    const Vignette f = load_vignette(args, view);
    const real leak = (real)args.leak;
    for (int64 c = 3 * view; c < 3 * view + 3; ++c) {
        const real *radiance = args.radiance + c * plane, *curve = args.curve + c * samples, gain = args.gain[c];
        real *photo = args.photo + c * plane, *outside = args.slopes + c * plane;
        FOR_EACH_PIXEL (x, y, args.width, args.height) {
            const int64 i = y * args.width + x;
            const real u = x * f.scale + f.shift_x, v = (int)y * f.scale + f.shift_y;
            const real light = radiance[i] * gain * factor_of(f, u * u + v * v), bright = light > 1 ? light : 1;
            real slope;
            photo[i] = response_position(light, samples, &slope);
            outside[i] = leak * (1 - 1 / sqrt(bright) + (light < 0 ? light : 0));
        }
        // A loop of its own, because table look-ups do not vectorise.
        FOR_EACH_PIXEL_IN_TURN (x, y, args.width, args.height) {
            const int64 i = y * args.width + x;
            const real position = photo[i];
            const int below = sample_below(position, samples);
            photo[i] = curve[below] + (curve[below + 1] - curve[below]) * (position - below) + outside[i];
        }
    }
}

KERNEL(tonemap_backward, TonemapArguments) {
    const int64 view = args.view, plane = args.width * args.height;
    const int samples = (int)args.samples;
    real* slot = args.sums + (view * args.slots + SLOT(args.slots)) * (8 + 3 * samples);
    const Vignette f = load_vignette(args, view);
    const real leak = (real)args.leak;
    real first = 0, second = 0, third = 0, centre_x = 0, centre_y = 0;
    for (int c = 0; c < 3; ++c) {
        const int64 channel = 3 * view + c;
        const real *radiance = args.radiance + channel * plane, *curve = args.curve + channel * samples;
        const real *grad_photo = args.grad_photo + channel * plane, gain = args.gain[channel];
        real *grad_radiance = args.grad_radiance + channel * plane, *positions = args.positions + channel * plane;
        real *slopes = args.slopes + channel * plane, *sample = slot + 8 + c * samples;
        FOR_EACH_PIXEL (x, y, args.width, args.height) {
            const int64 i = y * args.width + x;
            const real u = x * f.scale + f.shift_x, v = (int)y * f.scale + f.shift_y;
            const real light = radiance[i] * gain * factor_of(f, u * u + v * v), bright = light > 1 ? light : 1;
            real slope;
            positions[i] = response_position(light, samples, &slope), slopes[i] = slope;
            grad_radiance[i] = leak * (light > 1 ? 1 / (2 * bright * sqrt(bright)) : light < 0 ? (real)1 : (real)0);
        }
        FOR_EACH_PIXEL_IN_TURN (x, y, args.width, args.height) {
            const int64 i = y * args.width + x;
            const int below = sample_below(positions[i], samples);
            const real grad = grad_photo[i], upper = grad * (positions[i] - below);
            grad_radiance[i] = grad * ((curve[below + 1] - curve[below]) * slopes[i] + grad_radiance[i]);
            add_to_slot(sample + below, grad - upper), add_to_slot(sample + below + 1, upper);
        }
        real gains = 0;
        FOR_EACH_PIXEL_SUM (x, y, args.width, args.height, gains, first, second, third, centre_x, centre_y) {
            const int64 i = y * args.width + x;
            const real u = x * f.scale + f.shift_x, v = (int)y * f.scale + f.shift_y, r2 = u * u + v * v;
            const real factor = factor_of(f, r2), grad_light = grad_radiance[i];
            const real along = grad_light * radiance[i] * gain;  // gradient of the factor
            const real outward = -2 * along * (f.a + r2 * (2 * f.b + r2 * 3 * f.c));
            grad_radiance[i] = grad_light * gain * factor;
            gains += grad_light * radiance[i] * factor;
            first += along * r2, second += along * r2 * r2, third += along * r2 * r2 * r2;
            centre_x += outward * u, centre_y += outward * v;
        }
        add_to_slot(slot + c, gains);
    }
    add_to_slot(slot + 3, first), add_to_slot(slot + 4, second), add_to_slot(slot + 5, third);
    add_to_slot(slot + 6, centre_x), add_to_slot(slot + 7, centre_y);
}
