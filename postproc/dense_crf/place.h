// The kernel on place alone.
#pragma once

#include "blur.h"

namespace {

constexpr int USUAL_STEP = 3;

// CHUNKS is the number of 8 lanes a cell has; 0: known at run time.
template <int CHUNKS> struct Spatial {
    const Place* place;
    int chunks, rows, cols, cells_y, cells_x, size;
    Lanes *gathered, *scratch, *blurred, *line;
    float *near_x, *far_x;
    int32_t* cell_x;

    void take(Arena& arena) {
        gathered = arena.take<Lanes>(size);
        scratch = arena.take<Lanes>(size);
        blurred = arena.take<Lanes>(size);
        line = arena.take<Lanes>(cells_x * chunks);
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

    void clear() { memset(gathered, 0, size * sizeof(Lanes)); }

    void filter(int classes) {
        const int n = CHUNKS ? CHUNKS : chunks;
        blur(gathered, scratch, cells_y, cells_x, n, place->axis, 1.0f);
        blur(scratch, blurred, 1, cells_y, cells_x * n, place->axis, place->gain);
        if (place->gains) mix((float*)blurred, cells_y * cells_x, n * LANES, classes, place->gains);
        clear();
    }

    void read(int row, Lanes* message) {
        const int n = CHUNKS ? CHUNKS : chunks, step = place->axis.step, width = cells_x * n;
        const float far = place->scale_y[row] * (row % step) / step, near = place->scale_y[row] - far;
        const Lanes* above = blurred + row / step * width;
        for (int j = 0; j < width; ++j) line[j] = above[j] * near + above[j + width] * far;
        for (int x = 0; x < cols; ++x)
            for (int chunk = 0; chunk < n; ++chunk) {
                const Lanes* left = line + cell_x[x] + chunk;
                message[x * n + chunk] = left[0] * near_x[x] + left[n] * far_x[x];
            }
    }

    void add(int row, const Lanes* q) {
        if (place->axis.step == USUAL_STEP) gather<USUAL_STEP>(q);
        else gather<0>(q);
        const int n = CHUNKS ? CHUNKS : chunks, step = place->axis.step, width = cells_x * n;
        const float far = place->scale_y[row] * (row % step) / step, near = place->scale_y[row] - far;
        Lanes* above = gathered + row / step * width;
        for (int j = 0; j < width; ++j) {
            above[j] += line[j] * near;
            above[j + width] += line[j] * far;
        }
    }

    // Sum a row of pixels into a line of cells. STEP: the cells' width; 0: known at run time.
    template <int STEP> void gather(const Lanes* q) {
        const int n = CHUNKS ? CHUNKS : chunks, step = STEP ? STEP : place->axis.step;
        for (int chunk = 0; chunk < n; ++chunk) {
            Lanes carried = {};
            int cell = 0;
            for (int x = 0; x < cols; ++cell) {
                Lanes left = carried, right = {};
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
