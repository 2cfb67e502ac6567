// One picture's mean field: messages, softmax, and the next probabilities, row by row.
#pragma once

#include "colour.h"
#include "grey.h"
#include "kernel.h"
#include "place.h"
#include "softmax.h"
#include "transpose.h"

#include <cstring>

namespace {

// A picture has settled when no probability moved by more than SETTLED, and the moves shrink so fast
// that all later ones together come to a tenth of it.
constexpr float SETTLED = 1e-4f, SHRINKING = 0.1f;

template <typename V, int CHUNKS> struct Field {
    const Problem* problem;
    int chunks, stride;
    Spatial<V, CHUNKS> spatial;
    GreyBilateral<V, CHUNKS> grey;
    ColourBilateral<V, CHUNKS> colour;
    // The cells of all labels of a large picture take too much memory: where labels do not talk to each
    // other there, some of them have their turn, and their messages wait in `out`.
    ColourBilateral<V, 1> part;
    bool in_parts;
    // Segment after segment, each class by class.
    float *costs, *before;
    float* planes;  // of one segment
    V *message, *q;

    explicit Field(const Problem* p) : problem(p), chunks((p->classes + LANES<V> - 1) / LANES<V>) {
        stride = round_up(p->cols, SEGMENT);
        if (p->place) {
            const int step = p->place->axis.step;
            const int y = (p->rows - 1) / step + 2, x = (p->cols - 1) / step + 2;
            spatial = {p->place, chunks, p->rows, p->cols, y, x, y * x * chunks};
        }
        if (p->grey) {
            const int step = p->grey->place.step;
            const int y = (p->rows - 1) / step + 2, x = (p->cols - 1) / step + 2;
            grey = {p->grey, chunks, p->rows, p->cols, y, x};
        }
        if (p->colour) {
            colour.set(p->colour, chunks, p->rows, p->cols);
            part.set(p->colour, 1, p->rows, p->cols);
        }
        in_parts = p->colour && chunks > 1 && !p->colour->gains;
    }

    void take(Arena& arena) {
        const size_t values = (size_t)problem->rows * stride * problem->classes;
        costs = arena.take<float>(values);
        before = arena.take<float>(values);
        planes = arena.take<float>(chunks * LANES<V> * SEGMENT);
        message = arena.take<V>(chunks * stride);
        q = arena.take<V>(chunks * stride);
        if (problem->place) spatial.take(arena);
        if (problem->grey) grey.take(arena);
    }

    void lay_out() {
        memset(planes, 0, chunks * LANES<V> * SEGMENT * sizeof(float));
        if (problem->place) spatial.lay_out();
        if (problem->grey) grey.lay_out();
    }

    float* of_segment(float* values, int row, int start) const {
        return values + ((size_t)row * stride + start) * problem->classes;
    }

    // False where memory ran out, or where the picture needs too many cells.
    bool prepare(const float* maps, const uint8_t* picture) {
        const int classes = problem->classes, cols = problem->cols;
        const size_t pixels = (size_t)problem->rows * cols, values = (size_t)problem->rows * stride * classes;
        for (int row = 0; row < problem->rows; ++row)
            for (int start = 0; start < stride; start += SEGMENT) {
                float* to = of_segment(costs, row, start);
                const int length = cols - start < SEGMENT ? cols - start : SEGMENT;
                for (int c = 0; c < classes; ++c, to += SEGMENT) {
                    memcpy(to, maps + c * pixels + (size_t)row * cols + start, length * sizeof(float));
                    for (int x = length; x < SEGMENT; ++x) to[x] = 1;
                    for (int x = 0; x < SEGMENT; x += WIDE) {
                        Wide value = *(Wide*)(to + x);
                        value = value < problem->floor ? Wide{} + problem->floor : value;
                        *(Wide*)(to + x) = Wide{} - logarithm(value);
                    }
                }
            }
        memset(before, 0, values * sizeof(float));
        memset((void*)message, 0, chunks * stride * sizeof(V));
        if (problem->place) spatial.clear();
        if (problem->grey) grey.prepare(picture);
        if (in_parts) return part.prepare(picture, message);
        return !problem->colour || colour.prepare(picture, message);
    }

    // Turn messages of a segment into probabilities, in `before`, and their changes, in `planes`; return
    // the largest change. CLASSES: how many; 0: known at run time.
    template <int CLASSES> float soften(int row, int start) {
        const int classes = CLASSES ? CLASSES : problem->classes;
        const float* cost = of_segment(costs, row, start);
        float* old = of_segment(before, row, start);
        Wide worst = {};
        for (int x = 0; x < SEGMENT; x += WIDE) {
            Wide scores[CLASSES ? CLASSES : MOST_CLASSES];
            for (int c = 0; c < classes; ++c)
                scores[c] = *(Wide*)(planes + c * SEGMENT + x) - *(const Wide*)(cost + c * SEGMENT + x);
            Wide top = scores[0];
            for (int c = 1; c < classes; ++c) top = scores[c] > top ? scores[c] : top;
            Wide total = {};
            for (int c = 0; c < classes; ++c) {
                scores[c] = exponential(scores[c] - top);
                total += scores[c];
            }
            total = 1.0f / total;
            for (int c = 0; c < classes; ++c) {
                const Wide value = scores[c] * total;
                const Wide change = value - *(Wide*)(old + c * SEGMENT + x);
                const Wide size = change < 0.0f ? Wide{} - change : change;
                worst = size > worst ? size : worst;
                *(Wide*)(old + c * SEGMENT + x) = value;
                *(Wide*)(planes + c * SEGMENT + x) = change;
            }
        }
        float largest = 0;
        for (int i = 0; i < WIDE; ++i) largest = worst[i] > largest ? worst[i] : largest;
        return largest;
    }

    float soften_segment(int row, int start) {
        switch (problem->classes) {
            case 2: return soften<2>(row, start);
            case 3: return soften<3>(row, start);
            case 4: return soften<4>(row, start);
            case 5: return soften<5>(row, start);
            case 6: return soften<6>(row, start);
            case 11: return soften<11>(row, start);
            default: return soften<0>(row, start);
        }
    }

    // Send the probabilities through the kernel on colour, into `out`.
    void filter_in_parts(float* out) {
        const int rows = problem->rows, cols = problem->cols, classes = problem->classes;
        for (int first = 0; first < classes; first += LANES<V>) {
            const int count = classes - first < LANES<V> ? classes - first : LANES<V>;
            memset(planes, 0, LANES<V> * SEGMENT * sizeof(float));
            part.clear();
            for (int row = 0; row < rows; ++row) {
                for (int start = 0; start < stride; start += SEGMENT) {
                    memcpy(planes, of_segment(before, row, start) + first * SEGMENT, count * SEGMENT * sizeof(float));
                    transpose<LANES<V>>(planes, SEGMENT, (float*)(q + start), LANES<V>, LANES<V>, SEGMENT);
                }
                part.add(row, 0, cols, q);
                part.close(row);
            }
            part.filter();
            for (int row = 0; row < rows; ++row) {
                memset((void*)message, 0, stride * sizeof(V));
                part.open(row, 0);
                part.read(row, 0, cols, message);
                for (int c = 0; c < count; ++c) {
                    float* to = out + ((size_t)(first + c) * rows + row) * cols;
                    for (int x = 0; x < cols; ++x) to[x] = message[x][c];
                }
            }
        }
        memset(planes, 0, chunks * LANES<V> * SEGMENT * sizeof(float));
    }

    // Messages, probabilities and what they send, of the segment of a row that begins at `start`; returns
    // the largest change of a probability.
    float update(int row, int start, bool first, bool last, const float* out) {
        const int n = CHUNKS ? CHUNKS : chunks, lanes = n * LANES<V>;
        const int end = start + SEGMENT < problem->cols ? start + SEGMENT : problem->cols;
        memset((void*)(message + start * n), 0, SEGMENT * n * sizeof(V));
        if (!first) {
            if (problem->place) spatial.read(row, start, end, message);
            if (problem->grey) grey.read(row, start, end, message);
            if (problem->colour && !in_parts) colour.read(row, start, end, message);
        }
        transpose<LANES<V>>((const float*)(message + start * n), lanes, planes, SEGMENT, SEGMENT, lanes);
        if (in_parts && !first)
            for (int c = 0; c < problem->classes; ++c) {
                const float* from = out + ((size_t)c * problem->rows + row) * problem->cols + start;
                for (int x = 0; x < end - start; ++x) planes[c * SEGMENT + x] += from[x];
            }
        const float change = soften_segment(row, start);
        if (last) return change;
        transpose<LANES<V>>(planes, SEGMENT, (float*)(q + start * n), lanes, lanes, SEGMENT);
        if (problem->grey) grey.add(row, start, end, q);
        if (problem->colour && !in_parts) colour.add(row, start, end, q);
        return change;
    }

    // One iteration; returns the largest change of a probability.
    float pass(bool first, bool last, const float* out) {
        float worst = 0;
        for (int row = 0; row < problem->rows; ++row) {
            if (!first && problem->place) spatial.open(row);
            if (problem->grey) grey.open(row, first);
            if (!first && problem->colour && !in_parts)
                colour.open(row, problem->classes);
            for (int start = 0; start < stride; start += SEGMENT) {
                const float change = update(row, start, first, last, out);
                worst = change > worst ? change : worst;
            }
            if (last) continue;
            if (problem->place) spatial.add(row, q);
            if (problem->grey) grey.close(row);
            if (problem->colour && !in_parts) colour.close(row);
        }
        return worst;
    }

    // False where memory ran out.
    bool run(const float* maps, const uint8_t* picture, float* out, uint8_t* left) {
        *left = 0;
        if (!prepare(maps, picture)) {
            *left = colour.too_many || part.too_many;
            return *left;
        }
        pass(true, false, out);
        float change = 0;
        for (int iteration = 1; iteration <= problem->iterations; ++iteration) {
            if (problem->place) spatial.filter(problem->classes);
            if (problem->grey) grey.filter(problem->classes);
            if (in_parts) filter_in_parts(out);
            else if (problem->colour) colour.filter();
            const float last = change;
            change = pass(false, iteration == problem->iterations, out);
            if (change <= SETTLED && change <= last * SHRINKING) break;
        }
        const int classes = problem->classes, rows = problem->rows, cols = problem->cols;
        for (int row = 0; row < rows; ++row)
            for (int start = 0; start < cols; start += SEGMENT) {
                const float* from = of_segment(before, row, start);
                const int length = cols - start < SEGMENT ? cols - start : SEGMENT;
                for (int c = 0; c < classes; ++c)
                    memcpy(out + ((size_t)c * rows + row) * cols + start, from + c * SEGMENT, length * sizeof(float));
            }
        return true;
    }
};

}  // namespace
