// Adam with decoupled decay on the rows that have a gradient; each row counts its own steps, and slows down after many.
#include "arguments.h"

// One index is one row [C] of the parameter.
KERNEL(sparse_adam, SparseAdamArguments) {
    const int64 channels = args.channels;
    const real beta1 = (real)args.beta1, beta2 = (real)args.beta2, epsilon = (real)args.epsilon;
    const real *rates = args.rates, *decays = args.decays;
    int last = 0;  // neighbouring rows often have the same count, which saves the powers
    real scale1 = 0, scale2 = 0, fall = 0;
    FOR_EACH (n, args.rows) {
        const real* gradient = args.gradient + n * channels;
        real size = 0;
        SUM_LOOP(size) for (int64 c = 0; c < channels; ++c) size += abs(gradient[c]);
        if (size == 0) continue;
        const int step = ++args.steps[n];
        if (step != last) {
            last = step;
            scale1 = (real)(1 / (1 - pow(args.beta1, (double)step)));
            scale2 = (real)(1 / (1 - pow(args.beta2, (double)step)));
            fall = step > args.full_steps ? (real)(args.full_steps / step) : (real)1;
        }
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
