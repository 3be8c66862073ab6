// exp, log and atan2 that a compiler can vectorise and that round alike on CPUs and GPUs: plain arithmetic for floats,
// to two units in the last place; the library's own for doubles.
#pragma once
#include "portable.h"

// Of -87 to 88; what lies beyond is taken for these.
DEVICE float exp_of(float x) {
    const float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float whole = floor(bounded * 1.44269504f + 0.5f);
    const float r = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * float_of_bits(((int)whole + 127) * 0x800000);
}
DEVICE double exp_of(double x) { return exp(x); }

// Of positive normal numbers.
DEVICE float log_of(float x) {
    const int bits = bits_of_float(x), exponent = (bits - 0x3f3504f3) >> 23;  // the mantissa then lies around 1
    const float m = float_of_bits(bits - exponent * 0x800000), t = (m - 1.0f) / (m + 1.0f), s = t * t;
    float p = 0.2222222f;
    p = p * s + 0.28571429f, p = p * s + 0.4f, p = p * s + 0.66666667f;
    return (t * s * p + 2.0f * t + (float)exponent * -2.12194440e-4f) + (float)exponent * 0.693359375f;
}
DEVICE double log_of(double x) { return log(x); }

// Of any two numbers that are not both 0 or infinite.
DEVICE float atan2_of(float y, float x) {
    const float a = y < 0 ? -y : y, b = x < 0 ? -x : x;
    const float ratio = a < b ? a / b : b / a;  // 0 to 1
    const bool steep = ratio > 0.4142135624f;
    const float t = steep ? (ratio - 1.0f) / (ratio + 1.0f) : ratio, s = t * t;
    float p = 8.05374449538e-2f;
    p = p * s - 1.38776856032e-1f, p = p * s + 1.99777106478e-1f, p = p * s - 3.33329491539e-1f;
    float angle = (p * s * t + t) + (steep ? 0.785398163397f : 0.0f);
    angle = a < b ? angle : 1.570796326795f - angle;
    angle = x < 0 ? 3.141592653590f - angle : angle;
    return y < 0 ? -angle : angle;
}
DEVICE double atan2_of(double y, double x) { return atan2(y, x); }
