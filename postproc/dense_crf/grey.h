// The kernel on place and grey level.
#pragma once

#include "grey_cells.h"
#include <cmath>

namespace {

constexpr int STREAMS = 4;

template <typename V, int CHUNKS> struct GreyBilateral {
    const Grey* grey;
    int chunks, rows, cols, cells_y, cells_x, levels;
    Cells<V> cells;
    Cells<float> ones;
    float *share_x, (*weights)[4];
    int32_t *cell_x, *cell_of, *spread;

    void take(Arena& arena) {
        const int most = 255 / grey->level.step + 2;
        cells.take(arena, cells_y, cells_x * most * chunks);
        ones.take(arena, cells_y, cells_x * most);
        share_x = arena.take<float>(cols);
        cell_x = arena.take<int32_t>(cols);
        spread = arena.take<int32_t>(cols);
        weights = arena.take<float[4]>(rows * cols);
        cell_of = arena.take<int32_t>(rows * cols);
    }

    // What depends on the size alone.
    void lay_out() {
        const int step = grey->place.step;
        for (int x = 0; x < cols; ++x) {
            cell_x[x] = x / step;
            share_x[x] = float(x % step) / step;
            // Neighbours often share cells, and each sum would wait for the one before: go in strides.
            const int start = x / SEGMENT * SEGMENT, i = x - start, part = SEGMENT / STREAMS;
            spread[x] = start + SEGMENT <= cols ? start + i % STREAMS * part + i / STREAMS : x;
        }
        cells.step = ones.step = step;
        cells.rows = ones.rows = rows;
    }

    // Find each pixel's cells and weights; normalise by what a map of ones receives.
    void prepare(const uint8_t* picture) {
        int low = 255, high = 0;
        for (int p = 0; p < rows * cols; ++p) {
            low = picture[p] < low ? picture[p] : low;
            high = picture[p] > high ? picture[p] : high;
        }
        const int step = grey->level.step;
        levels = (high - low) / step + 2;
        ones.width = cells_x * levels;
        cells.width = ones.width * chunks;
        int32_t cell_of_level[256];
        float share_of_level[256];
        for (int level = low; level <= high; ++level) {
            cell_of_level[level] = (level - low) / step;
            share_of_level[level] = float((level - low) % step) / step;
        }
        ones.clear(cells_y);
        cells.clear(cells_y);
        for (int y = 0; y < rows; ++y) {
            ones.open(y);
            for (int i = 0; i < cols; ++i) {
                const int x = spread[i], p = y * cols + x;
                const float fx = share_x[x], fl = share_of_level[picture[p]];
                float* w = weights[p];
                w[3] = fx * fl, w[2] = fx - w[3], w[1] = fl - w[3], w[0] = 1 - fx - w[1];
                cell_of[p] = cell_x[x] * levels + cell_of_level[picture[p]];
                for (int k = 0; k < 4; ++k) ones.sum[cell_of[p] + (k >> 1) * levels + (k & 1)] += w[k];
            }
            ones.close(y);
        }
        ones.filter(cells_y, cells_x, 1, *grey, 1.0f);
        for (int y = 0; y < rows; ++y) {
            ones.slide(y);
            for (int p = y * cols; p < (y + 1) * cols; ++p) {
                float* w = weights[p];
                const float *left = ones.line + cell_of[p], *right = left + levels;
                const float total = left[0] * w[0] + left[1] * w[1] + right[0] * w[2] + right[1] * w[3];
                const float scale = 1 / sqrtf(total > TINY ? total : TINY);
                for (int k = 0; k < 4; ++k) w[k] *= scale;
                cell_of[p] *= chunks;
            }
        }
        levels *= chunks;
    }

    void filter(int classes) {
        const int n = CHUNKS ? CHUNKS : chunks;
        cells.filter(cells_y, cells_x, n, *grey, grey->gain);
        if (grey->gains)
            mix((float*)cells.blurred, cells_y * cells.width / n, n * LANES<V>, classes, grey->gains);
    }

    // Before a row is read and added.
    void open(int row, bool first) {
        if (!first) cells.slide(row);
        cells.open(row);
    }

    void read(int row, int start, int end, V* message) const {
        const int n = CHUNKS ? CHUNKS : chunks;
        for (int x = start; x < end; ++x) {
            const float* w = weights[row * cols + x];
            for (int chunk = 0; chunk < n; ++chunk) {
                const V* left = cells.line + cell_of[row * cols + x] + chunk;
                const V* right = left + levels;
                message[x * n + chunk] +=
                    left[0] * w[0] + left[n] * w[1] + (right[0] * w[2] + right[n] * w[3]);
            }
        }
    }

    void add(int row, int start, int end, const V* q) {
        const int n = CHUNKS ? CHUNKS : chunks;
        for (int i = start; i < end; ++i) {
            const int x = spread[i];
            const float* w = weights[row * cols + x];
            for (int chunk = 0; chunk < n; ++chunk) {
                const V value = q[x * n + chunk];
                V* left = cells.sum + cell_of[row * cols + x] + chunk;
                V* right = left + levels;
                left[0] += value * w[0];
                left[n] += value * w[1];
                right[0] += value * w[2];
                right[n] += value * w[3];
            }
        }
    }

    void close(int row) { cells.close(row); }
};

}  // namespace
