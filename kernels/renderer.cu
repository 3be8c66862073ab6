// Entry points around the network of the neural renderer: what it reads of a level, and the radiance that its outputs
// stand for; and the exact adjoints.
//
// inputs, per level l, as channels: the logarithms of the level's own colours relative to the brightness (3), 0 where
// holes are filled; its further features (C - 3); whether its own points are shown, and their occlusion, or the
// difference of the two (2 or 1); the filled colours, compressed (3); and, where photos are shown, their light as below
// (8). Channel c of pixel i lies at c * channel_step + i * pixel_step. outputs [B, 6 or 9, H, W]: change and offset of
// the picture, and the shares of points, nearest photo and mean photo in it. shown [B, 8, H, W]: see reproject.cu.
// Levels and views are launched one by one. One index is one pixel.
#include "arguments.h"
#include "functions.h"
#include "pyramid.h"

#define MOST_CHANGE ((real)8)  // of the picture's logarithm

KERNEL(renderer_inputs, RendererArguments) {
    const Size size = size_of(args, (int)args.level);
    const int columns = size.columns, rows = size.rows;
    const int64 plane = size.plane, first = args.view * plane, channels = args.channels, count = args.input_channels;
    const int64 step = args.channel_step, next = args.pixel_step;
    const real *image = args.image[args.level] + channels * first, *valid = args.valid[args.level] + first;
    const real *gap = args.occlusion[args.level] + first, *colour = args.colours[args.level] + 3 * first;
    const real light = args.brightness[args.view], dark = log_of(light);
    real* inputs = args.inputs[args.level] + count * first;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        const real red = image[i] - dark, green = image[plane + i] - dark, blue = image[2 * plane + i] - dark;
        const bool own = valid[i] > 0;
        inputs[i * next] = own ? red : 0;
        inputs[i * next + step] = own ? green : 0;
        inputs[i * next + 2 * step] = own ? blue : 0;
    }
    for (int64 c = 3; c < channels; ++c) {
        FOR_EACH_PIXEL (x, y, columns, rows) {
            const int64 i = y * columns + x;
            inputs[i * next + c * step] = image[c * plane + i];
        }
    }
    real* covered = inputs + channels * step;
    if (!args.joined) {
        FOR_EACH_PIXEL (x, y, columns, rows) {
            const int64 i = y * columns + x;
            covered[i * next + step] = gap[i];
        }
    }
    const real part = args.joined ? 1 : 0;
    real* compressed = covered + (args.joined ? 1 : 2) * step;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        covered[i * next] = valid[i] - part * gap[i];
        compressed[i * next] = log_of(1 + colour[i] / light);
        compressed[i * next + step] = log_of(1 + colour[plane + i] / light);
        compressed[i * next + 2 * step] = log_of(1 + colour[2 * plane + i] / light);
    }
    if (args.level > 0 || args.shown == nullptr) return;
    const real* shown = args.shown + 8 * first;
    real* seen = compressed + 3 * step;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        const real any = shown[3 * plane + i];
        UNROLL
        for (int c = 0; c < 8; ++c) {
            const real value = shown[c * plane + i];
            seen[i * next + c * step] = (c == 3 || c == 7) ? value : (value - dark) * any;
        }
    }
}

// In: grad_inputs. Out: grad_image and grad_colours; the brightness and what photos show count as constants.
KERNEL(renderer_inputs_backward, RendererArguments) {
    const Size size = size_of(args, (int)args.level);
    const int columns = size.columns, rows = size.rows;
    const int64 plane = size.plane, first = args.view * plane, channels = args.channels, step = args.channel_step,
                next = args.pixel_step;
    const real* grads = args.grad_inputs[args.level] + args.input_channels * first;
    const real *valid = args.valid[args.level] + first, *colour = args.colours[args.level] + 3 * first;
    const real light = args.brightness[args.view];
    real* grad_image = args.grad_image[args.level] + channels * first;
    real* grad_colour = args.grad_colours[args.level] + 3 * first;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        const real red = grads[i * next], green = grads[i * next + step], blue = grads[i * next + 2 * step];
        const bool own = valid[i] > 0;
        grad_image[i] = own ? red : 0, grad_image[plane + i] = own ? green : 0;
        grad_image[2 * plane + i] = own ? blue : 0;
    }
    for (int64 c = 3; c < channels; ++c) {
        FOR_EACH_PIXEL (x, y, columns, rows) {
            const int64 i = y * columns + x;
            grad_image[c * plane + i] = grads[i * next + c * step];
        }
    }
    const real* compressed = grads + (channels + (args.joined ? 1 : 2)) * step;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        grad_colour[i] = compressed[i * next] / (light + colour[i]);
        grad_colour[plane + i] = compressed[i * next + step] / (light + colour[plane + i]);
        grad_colour[2 * plane + i] = compressed[i * next + 2 * step] / (light + colour[2 * plane + i]);
    }
}

// What the network's outputs make of a pixel. The loops' bodies are functions, or compilers keep their vectors in
// memory.
struct Shares {
    real points, nearest, mean;  // they add up to 1 where a photo shows the pixel, else they are 0
};
DEVICE Shares find_shares(real a, real b, real c, real any) {
    const real first = a > b ? a : b, high = first > c ? first : c;
    const real p = exp_of(a - high), n = exp_of(b - high), m = exp_of(c - high), scale = any / (p + n + m);
    return {p * scale, n * scale, m * scale};
}
DEVICE real bounded_change(real change) {
    return change < -MOST_CHANGE ? -MOST_CHANGE : change > MOST_CHANGE ? MOST_CHANGE : change;
}

template <bool PHOTOS>
DEVICE void write_pixel(const real* outputs, const real* colour, const real* photo, real* radiance, int64 plane,
                        real light) {
    const real any = PHOTOS ? photo[3 * plane] : 0;
    Shares shares = {0, 0, 0};
    if (PHOTOS) shares = find_shares(outputs[6 * plane], outputs[7 * plane], outputs[8 * plane], any);
    UNROLL
    for (int c = 0; c < 3; ++c) {
        real picture = colour[c * plane] / light * (1 - any + shares.points);
        if (PHOTOS) {
            const real nearest = exp_of(photo[c * plane]), mean = exp_of(photo[(4 + c) * plane]);
            picture += (nearest * shares.nearest + mean * shares.mean) / light;
        }
        const real relative = picture * exp_of(bounded_change(outputs[c * plane])) + outputs[(3 + c) * plane];
        radiance[c * plane] = light * (relative < 0 ? 0 : relative);
    }
}

template <bool PHOTOS>
DEVICE void write_gradient(const real* outputs, const real* colour, const real* photo, const real* grads,
                           real* grad_outputs, real* grad_colour, int64 plane, real light) {
    const real any = PHOTOS ? photo[3 * plane] : 0;
    Shares shares = {0, 0, 0};
    if (PHOTOS) shares = find_shares(outputs[6 * plane], outputs[7 * plane], outputs[8 * plane], any);
    real to_points = 0, to_nearest = 0, to_mean = 0;  // gradients of the shares
    UNROLL
    for (int c = 0; c < 3; ++c) {
        const real points = colour[c * plane] / light, own = 1 - any + shares.points;
        real picture = points * own, nearest = 0, mean = 0;
        if (PHOTOS) {
            nearest = exp_of(photo[c * plane]) / light, mean = exp_of(photo[(4 + c) * plane]) / light;
            picture += nearest * shares.nearest + mean * shares.mean;
        }
        const real change = outputs[c * plane], bounded = bounded_change(change), factor = exp_of(bounded);
        const real relative = picture * factor + outputs[(3 + c) * plane], whole = grads[c * plane] * light;
        const real grad = relative < 0 ? 0 : whole, along = grad * factor, to_change = along * picture;
        grad_outputs[c * plane] = change == bounded ? to_change : 0;
        grad_outputs[(3 + c) * plane] = grad;
        grad_colour[c * plane] = along * own / light;
        to_points += along * points, to_nearest += along * nearest, to_mean += along * mean;
    }
    if (!PHOTOS) return;
    const real along = shares.points * to_points + shares.nearest * to_nearest + shares.mean * to_mean;
    grad_outputs[6 * plane] = shares.points * (to_points - along);
    grad_outputs[7 * plane] = shares.nearest * (to_nearest - along);
    grad_outputs[8 * plane] = shares.mean * (to_mean - along);
}

template <bool PHOTOS>
DEVICE void write_radiance(const RendererArguments& args) {
    const Size size = size_of(args, (int)args.level);
    const int columns = size.columns, rows = size.rows;
    const int64 plane = size.plane, first = args.view * plane;
    const real *outputs = args.outputs + (PHOTOS ? 9 : 6) * first, *colour = args.colours[0] + 3 * first;
    const real *photo = args.shown + 8 * first, light = args.brightness[args.view];
    real* radiance = args.radiance + 3 * first;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        write_pixel<PHOTOS>(outputs + i, colour + i, photo + i, radiance + i, plane, light);
    }
}

template <bool PHOTOS>
DEVICE void write_gradients(const RendererArguments& args) {
    const Size size = size_of(args, (int)args.level);
    const int columns = size.columns, rows = size.rows;
    const int64 plane = size.plane, first = args.view * plane, count = PHOTOS ? 9 : 6;
    const real *outputs = args.outputs + count * first, *colour = args.colours[0] + 3 * first;
    const real *photo = args.shown + 8 * first, *grads = args.grad_radiance + 3 * first;
    const real light = args.brightness[args.view];
    real *grad_outputs = args.grad_outputs + count * first, *grad_colour = args.grad_colours[0] + 3 * first;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        write_gradient<PHOTOS>(outputs + i, colour + i, photo + i, grads + i, grad_outputs + i, grad_colour + i, plane,
                               light);
    }
}

// These two are launched for level 0.
KERNEL(renderer_output, RendererArguments) {
    if (args.shown != nullptr) write_radiance<true>(args);
    else write_radiance<false>(args);
}

// In: grad_radiance. Out: grad_outputs and grad_colours[0].
KERNEL(renderer_output_backward, RendererArguments) {
    if (args.shown != nullptr) write_gradients<true>(args);
    else write_gradients<false>(args);
}
