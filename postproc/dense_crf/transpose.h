// From pixels with their channels together to planes of one channel, and back.
#pragma once

#include "vectors.h"

namespace {

// Transpose `lanes` x `lanes` values, by shuffles of the width that the machine has.
#if defined(__AVX2__)
#define SHUFFLE8(a, b, ...) SHUFFLE(Lanes, LanesInt, a, b, __VA_ARGS__)
constexpr int TILE = 8;

inline void transpose(const float* from, int from_stride, float* to, int to_stride) {
    Lanes r[8], t[8];
    for (int i = 0; i < 8; ++i) r[i] = *(const Lanes*)(from + i * from_stride);
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
        *(Lanes*)(to + i * to_stride) = SHUFFLE8(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(Lanes*)(to + (i + 4) * to_stride) = SHUFFLE8(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
#define SHUFFLE4(a, b, ...) SHUFFLE(Four, FourInt, a, b, __VA_ARGS__)
constexpr int TILE = 4;

inline void transpose(const float* from, int from_stride, float* to, int to_stride) {
    Four a = *(const Four*)from, b = *(const Four*)(from + from_stride);
    Four c = *(const Four*)(from + 2 * from_stride), d = *(const Four*)(from + 3 * from_stride);
    Four e = SHUFFLE4(a, b, 0, 4, 1, 5), f = SHUFFLE4(c, d, 0, 4, 1, 5);
    Four g = SHUFFLE4(a, b, 2, 6, 3, 7), h = SHUFFLE4(c, d, 2, 6, 3, 7);
    *(Four*)to = SHUFFLE4(e, f, 0, 1, 4, 5);
    *(Four*)(to + to_stride) = SHUFFLE4(e, f, 2, 3, 6, 7);
    *(Four*)(to + 2 * to_stride) = SHUFFLE4(g, h, 0, 1, 4, 5);
    *(Four*)(to + 3 * to_stride) = SHUFFLE4(g, h, 2, 3, 6, 7);
}
#endif

}  // namespace
