// The kernel on place alone.
#pragma once

#include "blur.h"

namespace {

constexpr int USUAL_STEP = 3;

// CHUNKS is the number of 8 lanes a cell has; 0: known at run time.
template <typename V, int CHUNKS> struct Spatial {
    const Place* place;
    int chunks, rows, cols, cells_y, cells_x, size;
    V *gathered, *scratch, *blurred, *line;
    float *near_x, *far_x;
    int32_t* cell_x;

    void take(Arena& arena) {
        gathered = arena.take<V>(size);
        scratch = arena.take<V>(size);
        blurred = arena.take<V>(size);
        line = arena.take<V>(cells_x * chunks);
        near_x = arena.take<float>(cols);
        far_x = arena.take<float>(cols);
        cell_x = arena.take<int32_t>(cols);
    }

    void lay_out() {
        const int step = place->axis.step;
        for (int x = 0; x < cols; ++x) {
            far_x[x] = place->scale_x[x] * (x % step) / step;
            near_x[x] = place->scale_x[x] - far_x[x];
            cell_x[x] = x / step * chunks;
        }
    }

    void clear() { memset(gathered, 0, size * sizeof(V)); }

    void filter(int classes) {
        const int n = CHUNKS ? CHUNKS : chunks;
        blur(gathered, scratch, cells_y, cells_x, n, place->axis, 1.0f);
        blur(scratch, blurred, 1, cells_y, cells_x * n, place->axis, place->gain);
        if (place->gains) mix((float*)blurred, cells_y * cells_x, n * LANES<V>, classes, place->gains);
    }

    // Let `line` hold what a row receives.
    void open(int row) {
        const int n = CHUNKS ? CHUNKS : chunks, step = place->axis.step, width = cells_x * n;
        const float far = place->scale_y[row] * (row % step) / step, near = place->scale_y[row] - far;
        const V* above = blurred + row / step * width;
        for (int j = 0; j < width; ++j) line[j] = above[j] * near + above[j + width] * far;
    }

    void read(int, int start, int end, V* message) const {
        const int n = CHUNKS ? CHUNKS : chunks;
        for (int x = start; x < end; ++x)
            for (int chunk = 0; chunk < n; ++chunk) {
                const V* left = line + cell_x[x] + chunk;
                message[x * n + chunk] = left[0] * near_x[x] + left[n] * far_x[x];
            }
    }

    void add(int row, const V* q) {
        if (place->axis.step == USUAL_STEP) gather<USUAL_STEP>(q);
        else gather<0>(q);
        const int n = CHUNKS ? CHUNKS : chunks, step = place->axis.step, width = cells_x * n;
        const float far = place->scale_y[row] * (row % step) / step, near = place->scale_y[row] - far;
        V* above = gathered + row / step * width;
        for (int j = 0; j < width; ++j) {
            above[j] += line[j] * near;
            above[j + width] += line[j] * far;
        }
    }

    // Sum a row of pixels into a line of cells. STEP: the cells' width; 0: known at run time.
    template <int STEP> void gather(const V* q) {
        const int n = CHUNKS ? CHUNKS : chunks, step = STEP ? STEP : place->axis.step;
        for (int chunk = 0; chunk < n; ++chunk) {
            V carried = {};
            int cell = 0;
            for (int x = 0; x < cols; ++cell) {
                V left = carried, right = {};
                if (x + step <= cols)
                    for (int i = 0; i < step; ++i, ++x) {
                        left += q[x * n + chunk] * near_x[x];
                        right += q[x * n + chunk] * far_x[x];
                    }
                else
                    for (; x < cols; ++x) {
                        left += q[x * n + chunk] * near_x[x];
                        right += q[x * n + chunk] * far_x[x];
                    }
                line[cell * n + chunk] = left;
                carried = right;
            }
            line[cell * n + chunk] = carried;
        }
    }
};

}  // namespace
