// Blur along one axis of a grid, and the exchange between labels.
#pragma once

#include "kernel.h"
#include "vectors.h"
#include <cstring>

namespace {

constexpr int MOST_REACH = 8, MOST_CLASSES = 256;
constexpr int SEGMENT = 16;      // pixels of a row that are dealt with together
constexpr float TINY = 1e-20f;  // less is not divided by

// Blur along one axis: `outer` blocks of `length` cells, each cell of `inner` values.
template <typename V, int REACH>
void blur(const V* from, V* to, int outer, int length, int inner, const Axis& axis, float scale) {
    float taps[REACH + 1];
    for (int k = 0; k <= REACH; ++k) taps[k] = k <= axis.reach ? axis.taps[k] * scale : 0;
    const int reach = REACH < axis.reach ? REACH : axis.reach;
    for (int block = 0; block < outer; ++block, from += length * inner, to += length * inner) {
        // Away from both ends, in one long loop.
        for (int j = REACH * inner; j < (length - REACH) * inner; ++j) {
            V sum = from[j] * taps[0];
            for (int k = 1; k <= REACH; ++k) sum += (from[j - k * inner] + from[j + k * inner]) * taps[k];
            to[j] = sum;
        }
        for (int cell = 0; cell < length; ++cell) {
            if (cell == REACH && length > 2 * REACH) cell = length - REACH;
            const int first = cell < reach ? 0 : cell - reach;
            const int last = cell + reach < length ? cell + reach : length - 1;
            for (int j = 0; j < inner; ++j) {
                V sum = {};
                for (int near = first; near <= last; ++near)
                    sum += from[near * inner + j] * taps[near < cell ? cell - near : near - cell];
                to[cell * inner + j] = sum;
            }
        }
    }
}

template <typename V>
void blur(const V* from, V* to, int outer, int length, int inner, const Axis& axis, float scale) {
    if (axis.reach <= 3) blur<V, 3>(from, to, outer, length, inner, axis, scale);
    else if (axis.reach <= 5) blur<V, 5>(from, to, outer, length, inner, axis, scale);
    else blur<V, MOST_REACH>(from, to, outer, length, inner, axis, scale);
}

// Let labels talk to each other, cell by cell: what each sends times what the pair earns.
void mix(float* cells, int count, int lanes, int classes, const float* gains) {
    float mixed[MOST_CLASSES];
    for (int cell = 0; cell < count; ++cell, cells += lanes) {
        for (int c = 0; c < classes; ++c) {
            float sum = 0;
            for (int other = 0; other < classes; ++other) sum += gains[c * classes + other] * cells[other];
            mixed[c] = sum;
        }
        memcpy(cells, mixed, classes * sizeof(float));
    }
}

}  // namespace
