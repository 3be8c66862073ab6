// Adam with decoupled decay on the rows that have a gradient; each row counts its own steps, and slows down after many.
#include "arguments.h"

DEVICE bool any_of(const real* values, int64 count) {
    int found = 0;
    ANY_LOOP(found) for (int64 i = 0; i < count; ++i) found |= values[i] != 0 ? 1 : 0;
    return found != 0;
}

// One index is LANES rows [C] of the parameter: most have no gradient, and many rows are looked at faster at once.
KERNEL(sparse_adam, SparseAdamArguments) {
    const int64 channels = args.channels;
    const real beta1 = (real)args.beta1, beta2 = (real)args.beta2, epsilon = (real)args.epsilon;
    const real *rates = args.rates, *decays = args.decays;
    const int counts = (int)args.counts;
    FOR_EACH (group, (args.rows + LANES - 1) / LANES) {
        const int64 begin = group * LANES, end = begin + LANES < args.rows ? begin + LANES : args.rows;
        if (LANES > 1 && !any_of(args.gradient + begin * channels, (end - begin) * channels)) continue;
        for (int64 n = begin; n < end; ++n) {
            const real* gradient = args.gradient + n * channels;
            if (!any_of(gradient, channels)) continue;
            const int step = ++args.steps[n];
            const real* scales = args.scales + 2 * (step < counts ? step : counts - 1);
            const real scale1 = scales[0], scale2 = scales[1];
            const real fall = step > args.full_steps ? (real)(args.full_steps / step) : (real)1;
            real* average = args.average + n * channels;
            real *square = args.square + n * channels, *parameter = args.parameter + n * channels;
            LANE_LOOP for (int64 c = 0; c < channels; ++c) {
                const real g = gradient[c];
                average[c] = beta1 * average[c] + (1 - beta1) * g;
                square[c] = beta2 * square[c] + (1 - beta2) * g * g;
                const real change = average[c] * scale1 / (sqrt(square[c] * scale2) + epsilon);
                parameter[c] -= rates[c] * fall * (change + decays[c] * parameter[c]);
            }
        }
    }
}
