// Exponential and logarithm of many values at once.
#pragma once

#include "vectors.h"

namespace {

// Coefficients of exp and log: S. L. Moshier, Cephes Math Library, expf.c and logf.c.
inline Wide exponential(Wide x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    x = x < -87.0f ? Wide{} - 87.0f : x;
    Wide shifted = x * 1.44269504f + magic;
    Wide whole = shifted - magic;
    x = x - whole * 0.693147181f;
    Wide y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    return y * (Wide)(((WideInt)shifted << 23) + 0x3f800000);
}

inline Wide logarithm(Wide value) {
    WideInt bits = (WideInt)value - 0x3f3504f3;  // mantissa from sqrt(1/2)
    Wide exponent = __builtin_convertvector(bits >> 23, Wide);
    Wide x = (Wide)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
    Wide y = x * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * x + 1.1676998740e-1f;
    y = y * x - 1.2420140846e-1f;
    y = y * x + 1.4249322787e-1f;
    y = y * x - 1.6668057665e-1f;
    y = y * x + 2.0000714765e-1f;
    y = y * x - 2.4999993993e-1f;
    y = y * x + 3.3333331174e-1f;
    y = y * x * x * x - 0.5f * x * x - exponent * 2.12194440e-4f + x + exponent * 0.693359375f;
    return value == value ? y : value;
}

}  // namespace
