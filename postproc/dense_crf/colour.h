// The kernel on place and colour.
//
// A pixel lies between four cells of place and four vertices of the lattice of colours. The grid holds
// all cells of place for each vertex that the picture has, so that blurring along colours adds up whole
// grids of place: long loops without indices.
#pragma once

#include "blur.h"
#include "lattice.h"

#include <cmath>

namespace {

template <int CHUNKS> struct ColourBilateral {
    static constexpr int BLOCK = 4;  // vectors summed in registers

    struct Span {
        int32_t low, high;
    };

    const Colour* colour;
    int chunks, rows, cols, cells_y, cells_x;
    int size, most;  // vectors a vertex has; vertices there is room for
    Vertices vertices;
    Lanes *gathered, *blurred, *scratch;  // cells of all vertices; of one
    Span *seen, *reached;  // by vertex: rows of cells that pixels touch; those that it is blurred to
    float *share_x, (*weights)[CORNERS], *taps;
    int32_t *cell_x, (*corners)[CORNERS], *near, *first, *chosen;

    void take(Arena& arena) {
        size = cells_y * cells_x * chunks;
        const int64_t room = colour->most_cells / (cells_y * cells_x), all = (int64_t)CORNERS * rows * cols;
        most = (int)(room < all ? room : all);
        vertices.take(arena, most + CORNERS);
        for (Lanes** each : {&gathered, &blurred})
            *each = arena.take<Lanes>((size_t)(most + CORNERS) * size + BLOCK * WIDE / LANES);
        scratch = arena.take<Lanes>(size);
        for (Span** each : {&seen, &reached}) *each = arena.take<Span>(most + CORNERS);
        share_x = arena.take<float>(cols);
        cell_x = arena.take<int32_t>(cols);
        weights = arena.take<float[CORNERS]>(rows * cols);
        corners = arena.take<int32_t[CORNERS]>(rows * cols);
        first = arena.take<int32_t>(most + CORNERS + 1);
        chosen = arena.take<int32_t>(colour->reach);
        near = arena.take<int32_t>((size_t)(most + CORNERS) * colour->reach);
        taps = arena.take<float>((size_t)(most + CORNERS) * colour->reach);
    }

    void lay_out() {
        const int step = colour->place.step;
        for (int x = 0; x < cols; ++x) {
            cell_x[x] = x / step * chunks;
            share_x[x] = float(x % step) / step;
        }
    }

    // Find each pixel's vertices and weights; false where there are too many.
    bool prepare(const uint8_t* picture, Lanes* line) {
        const size_t pixels = (size_t)rows * cols;
        vertices.clear();
        for (size_t p = 0; p < pixels; ++p) {
            const Simplex found = simplex(picture + p, pixels, colour->scale);
            const int cell_y = (int)(p / cols) / colour->place.step, known = vertices.count;
            for (int k = 0; k < CORNERS; ++k) {
                const int vertex = vertices.add(Vertices::key(found.corner[k]));
                if (vertex >= known) seen[vertex].low = cell_y;
                seen[vertex].high = cell_y + 2;
                weights[p][k] = found.weight[k];
                corners[p][k] = vertex * size;
            }
            if (vertices.count > most) return false;
        }
        for (int vertex = 0; vertex < vertices.count; ++vertex) {
            const int low = seen[vertex].low - colour->place.reach, high = seen[vertex].high + colour->place.reach;
            reached[vertex] = {low > 0 ? low : 0, high < cells_y ? high : cells_y};
        }
        memset((void*)gathered, 0, (size_t)vertices.count * size * sizeof(Lanes));
        find_neighbours();
        normalise(line);
        return true;
    }

    void find_neighbours() {
        int count = 0;
        for (int vertex = 0; vertex < vertices.count; ++vertex) {
            first[vertex] = count;
            for (int k = 0; k < colour->reach; ++k) {
                const int found = vertices.find(vertices.keys[vertex] + Vertices::key(colour->steps[k]));
                if (found < 0) continue;
                near[count] = found;
                taps[count++] = colour->taps[k];
            }
        }
        first[vertices.count] = count;
    }

    // Divide by the root of what a map of ones receives.
    void normalise(Lanes* line) {
        for (int j = 0; j < cols * chunks; ++j) line[j] = Lanes{} + 1.0f;
        for (int row = 0; row < rows; ++row) add(row, line);
        blur_all(1.0f);
        for (int row = 0; row < rows; ++row) {
            memset((void*)line, 0, cols * chunks * sizeof(Lanes));
            read(row, line);
            for (int x = 0; x < cols; ++x) {
                const float total = line[x * chunks][0];
                for (float& weight : weights[row * cols + x]) weight /= sqrtf(total > TINY ? total : TINY);
            }
        }
        memset((void*)line, 0, cols * chunks * sizeof(Lanes));
        clear();
    }

    // Beyond what was reached all is zero still.
    void clear() {
        const int width = cells_x * chunks;
        for (int vertex = 0; vertex < vertices.count; ++vertex) {
            const Span rows = reached[vertex];
            Lanes* from = gathered + (size_t)vertex * size + rows.low * width;
            memset((void*)from, 0, (size_t)(rows.high - rows.low) * width * sizeof(Lanes));
        }
    }

    void filter(int classes) {
        const int n = CHUNKS ? CHUNKS : chunks;
        blur_all(colour->gain);
        if (colour->gains)
            mix((float*)blurred, vertices.count * cells_y * cells_x, n * LANES, classes, colour->gains);
        clear();
    }

    void blur_all(float gain) {
        const int n = CHUNKS ? CHUNKS : chunks, width = cells_x * n;
        for (int vertex = 0; vertex < vertices.count; ++vertex) {
            const Span from = seen[vertex], to = reached[vertex];
            Lanes* const cells = gathered + (size_t)vertex * size;
            const int first = from.low * width, last = from.high * width, top = to.low * width;
            memset((void*)(scratch + top), 0, (first - top) * sizeof(Lanes));
            memset((void*)(scratch + last), 0, (to.high * width - last) * sizeof(Lanes));
            blur(cells + first, scratch + first, from.high - from.low, cells_x, n, colour->place, 1.0f);
            blur(scratch + top, cells + top, 1, to.high - to.low, width, colour->place, gain);
        }
        for (int vertex = 0; vertex < vertices.count; ++vertex) sum_near(vertex);
    }

    // What lies behind the end of the last block is overwritten when its turn comes.
    void sum_near(int vertex) {
        const int width = cells_x * (CHUNKS ? CHUNKS : chunks) * LANES;
        const Span here = seen[vertex];
        float* to = (float*)(blurred + (size_t)vertex * size);
        int among = 0;
        for (int i = first[vertex]; i < first[vertex + 1]; ++i) {
            const Span there = reached[near[i]];
            if (there.low < here.high && here.low < there.high) chosen[among++] = i;
        }
        for (int j = here.low * width; j < here.high * width; j += BLOCK * WIDE) {
            WideAnywhere sum[BLOCK] = {};
            for (int i = 0; i < among; ++i) {
                const auto from = (const float*)(gathered + (size_t)near[chosen[i]] * size) + j;
                for (int k = 0; k < BLOCK; ++k) sum[k] += *(const WideAnywhere*)(from + k * WIDE) * taps[chosen[i]];
            }
            for (int k = 0; k < BLOCK; ++k) *(WideAnywhere*)(to + j + k * WIDE) = sum[k];
        }
    }

    void read(int row, Lanes* message) {
        const int n = CHUNKS ? CHUNKS : chunks, step = colour->place.step, width = cells_x * n;
        const float below = float(row % step) / step, above = 1 - below;
        for (int x = 0; x < cols; ++x) {
            const int p = row * cols + x;
            const float right = share_x[x], left = 1 - right;
            const Lanes* at = blurred + row / step * width + cell_x[x];
            for (int chunk = 0; chunk < n; ++chunk, ++at) {
                Lanes sum = message[x * n + chunk];
                for (int k = 0; k < CORNERS; ++k) {
                    const Lanes* cell = at + corners[p][k];
                    const Lanes upper = cell[0] * left + cell[n] * right;
                    const Lanes lower = cell[width] * left + cell[width + n] * right;
                    sum += (upper * above + lower * below) * weights[p][k];
                }
                message[x * n + chunk] = sum;
            }
        }
    }

    void add(int row, const Lanes* q) {
        const int n = CHUNKS ? CHUNKS : chunks, step = colour->place.step, width = cells_x * n;
        const float below = float(row % step) / step, above = 1 - below;
        for (int x = 0; x < cols; ++x) {
            const int p = row * cols + x;
            const float right = share_x[x], left = 1 - right;
            Lanes* at = gathered + row / step * width + cell_x[x];
            for (int chunk = 0; chunk < n; ++chunk, ++at) {
                const Lanes upper = q[x * n + chunk] * above, lower = q[x * n + chunk] * below;
                const Lanes parts[4] = {upper * left, upper * right, lower * left, lower * right};
                for (int k = 0; k < CORNERS; ++k) {
                    Lanes* cell = at + corners[p][k];
                    cell[0] += parts[0] * weights[p][k];
                    cell[n] += parts[1] * weights[p][k];
                    cell[width] += parts[2] * weights[p][k];
                    cell[width + n] += parts[3] * weights[p][k];
                }
            }
        }
    }
};

}  // namespace
