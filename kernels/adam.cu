// Adam with decoupled decay on the rows that have a gradient; each row counts its own steps.
#include "arguments.h"

// One index is one row [C] of the parameter.
KERNEL(sparse_adam, SparseAdamArguments) {
    const int64 channels = args.channels;
    const real beta1 = (real)args.beta1, beta2 = (real)args.beta2;
    int last = 0;  // neighbouring rows often have the same count, which saves the powers
    real scale1 = 0, scale2 = 0;
    FOR_EACH (n, args.rows) {
        const real* gradient = args.gradient + n * channels;
        bool touched = false;
        for (int64 c = 0; c < channels; ++c) touched |= gradient[c] != 0;
        if (!touched) continue;
        const int step = ++args.steps[n];
        if (step != last) {
            last = step;
            scale1 = (real)(1 / (1 - pow(args.beta1, (double)step)));
            scale2 = (real)(1 / (1 - pow(args.beta2, (double)step)));
        }
        for (int64 c = 0; c < channels; ++c) {
            const int64 i = n * channels + c;
            const real g = gradient[c];
            args.average[i] = beta1 * args.average[i] + (1 - beta1) * g;
            args.square[i] = beta2 * args.square[i] + (1 - beta2) * g * g;
            const real change = args.average[i] * scale1 / (sqrt(args.square[i] * scale2) + (real)args.epsilon);
            args.parameter[i] -= args.rates[c] * (change + args.decays[c] * args.parameter[i]);
        }
    }
}
