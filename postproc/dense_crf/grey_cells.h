// Cells of the grid over place and grey level.
#pragma once

#include "blur.h"

namespace {

// Cells (y, x, level), entered and read a row of pixels at a time.
//
// Along y a row is dealt with for all its cells at once: `line`, what the row reads, slides from one
// row of cells to the next; what rows add is summed by parts: with S_r the sum of rows up to r,
// sum f_r L_r = f_last S_last - sum_{r < last} S_r / step.
template <typename V> struct Cells {
    int step, rows, width;  // width: values in a row of cells
    V *gathered, *scratch, *blurred, *line, *slope, *sum, *sums;

    void take(Arena& arena, int most_rows, int most_width) {
        gathered = arena.take<V>(most_rows * most_width);
        scratch = arena.take<V>(most_rows * most_width);
        blurred = arena.take<V>(most_rows * most_width);
        for (V** each : {&line, &slope, &sum, &sums}) *each = arena.take<V>(most_width);
    }

    void clear(int cells_y) { memset((void*)gathered, 0, (size_t)cells_y * width * sizeof(V)); }

    void filter(int cells_y, int cells_x, int n, const Grey& grey, float gain) {
        const int levels = width / cells_x;
        blur(gathered, blurred, cells_y * cells_x, levels / n, n, grey.level, 1.0f);
        blur(blurred, scratch, cells_y, cells_x, levels, grey.place, 1.0f);
        blur(scratch, blurred, 1, cells_y, width, grey.place, gain);
    }

    // Let `line` hold what this row reads.
    void slide(int row) {
        if (row % step)
            for (int j = 0; j < width; ++j) line[j] += slope[j];
        else {
            const V* above = blurred + row / step * width;
            for (int j = 0; j < width; ++j) {
                line[j] = above[j];
                slope[j] = (above[j + width] - above[j]) * (1.0f / step);
            }
        }
    }

    // Before a row is added to `sum`.
    void open(int row) {
        if (row % step) return;
        memset((void*)sum, 0, width * sizeof(V));
        memset((void*)sums, 0, width * sizeof(V));
    }

    // After a row was added to `sum`.
    void close(int row) {
        if (row % step != step - 1 && row != rows - 1) {
            for (int j = 0; j < width; ++j) sums[j] += sum[j];
            return;
        }
        const float last = float(row % step) / step, share = 1.0f / step;
        V *above = gathered + row / step * width, *below = above + width;
        for (int j = 0; j < width; ++j) {
            const V far = sum[j] * last - sums[j] * share;
            below[j] += far;
            above[j] += sum[j] - far;
        }
    }
};

}  // namespace
