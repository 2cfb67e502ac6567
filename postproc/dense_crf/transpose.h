// From pixels with their channels together to planes of one channel, and back.
#pragma once

#include "vectors.h"

namespace {

#if defined(__clang__)
#define SHUFFLE(type, whole, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, whole, a, b, ...) __builtin_shuffle(a, b, (whole){__VA_ARGS__})
#endif

typedef int32_t Int4 __attribute__((vector_size(16)));
typedef int32_t Int8 __attribute__((vector_size(32)));

#define SHUFFLE4(a, b, ...) SHUFFLE(Lanes4, Int4, a, b, __VA_ARGS__)
#define SHUFFLE8(a, b, ...) SHUFFLE(Lanes8, Int8, a, b, __VA_ARGS__)

// Transpose 4 x 4 values.
inline void transpose4(const float* from, int from_stride, float* to, int to_stride) {
    Lanes4 a = *(const Lanes4*)from, b = *(const Lanes4*)(from + from_stride);
    Lanes4 c = *(const Lanes4*)(from + 2 * from_stride), d = *(const Lanes4*)(from + 3 * from_stride);
    Lanes4 e = SHUFFLE4(a, b, 0, 4, 1, 5), f = SHUFFLE4(c, d, 0, 4, 1, 5);
    Lanes4 g = SHUFFLE4(a, b, 2, 6, 3, 7), h = SHUFFLE4(c, d, 2, 6, 3, 7);
    *(Lanes4*)to = SHUFFLE4(e, f, 0, 1, 4, 5);
    *(Lanes4*)(to + to_stride) = SHUFFLE4(e, f, 2, 3, 6, 7);
    *(Lanes4*)(to + 2 * to_stride) = SHUFFLE4(g, h, 0, 1, 4, 5);
    *(Lanes4*)(to + 3 * to_stride) = SHUFFLE4(g, h, 2, 3, 6, 7);
}

// Transpose 8 x 8 values.
inline void transpose8(const float* from, int from_stride, float* to, int to_stride) {
    Lanes8 r[8], t[8];
    for (int i = 0; i < 8; ++i) r[i] = *(const Lanes8*)(from + i * from_stride);
    for (int i = 0; i < 8; i += 2) {
        t[i] = SHUFFLE8(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = SHUFFLE8(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; ++k) {
            r[i + 2 * k] = SHUFFLE8(t[i + k], t[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[i + 2 * k + 1] = SHUFFLE8(t[i + k], t[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        *(Lanes8*)(to + i * to_stride) = SHUFFLE8(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(Lanes8*)(to + (i + 4) * to_stride) = SHUFFLE8(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// Transpose `rows` x `cols` values, both multiples of the unit: 8 where LANES are a multiple of it
// and the machine has vectors of 8, else 4.
template <int LANES>
void transpose(const float* from, int from_stride, float* to, int to_stride, int rows, int cols) {
#if defined(__AVX2__)
    constexpr int UNIT = LANES % 8 ? 4 : 8;
#else
    constexpr int UNIT = 4;
#endif
    for (int i = 0; i < rows; i += UNIT)
        for (int j = 0; j < cols; j += UNIT)
            if constexpr (UNIT == 8) transpose8(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
            else transpose4(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}

}  // namespace
