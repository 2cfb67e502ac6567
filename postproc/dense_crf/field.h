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

constexpr int ROW_UNIT = 16;

// A picture has settled when no probability moved by more than SETTLED, and the moves shrink so fast
// that all later ones together come to a tenth of it.
constexpr float SETTLED = 1e-4f, SHRINKING = 0.1f;

template <int CHUNKS> struct Field {
    const Problem* problem;
    int chunks, stride;
    Spatial<CHUNKS> spatial;
    GreyBilateral<CHUNKS> grey;
    ColourBilateral<CHUNKS> colour;
    // The cells of all labels of a large picture take too much memory: where labels do not talk to each
    // other there, LANES of them have their turn, and their messages wait in `out`.
    ColourBilateral<1> part;
    bool in_parts;
    float *costs, *before, *planes;
    Lanes *message, *q;

    explicit Field(const Problem* p) : problem(p), chunks((p->classes + LANES - 1) / LANES) {
        stride = (p->cols + ROW_UNIT - 1) / ROW_UNIT * ROW_UNIT;
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
            const int step = p->colour->place.step;
            const int y = (p->rows - 1) / step + 2, x = (p->cols - 1) / step + 2;
            colour = {p->colour, chunks, p->rows, p->cols, y, x};
            part = {p->colour, 1, p->rows, p->cols, y, x};
        }
        in_parts = p->colour && chunks > 1 && !p->colour->gains;
    }

    void take(Arena& arena) {
        costs = arena.take<float>((size_t)problem->rows * problem->classes * stride);
        before = arena.take<float>((size_t)problem->rows * problem->classes * stride);
        planes = arena.take<float>(chunks * LANES * stride);
        message = arena.take<Lanes>(chunks * stride);
        q = arena.take<Lanes>(chunks * stride);
        if (problem->place) spatial.take(arena);
        if (problem->grey) grey.take(arena);
        if (in_parts) part.take(arena);
        else if (problem->colour) colour.take(arena);
    }

    void lay_out() {
        memset(before, 0, (size_t)problem->rows * problem->classes * stride * sizeof(float));
        memset(planes, 0, chunks * LANES * stride * sizeof(float));
        if (problem->place) spatial.lay_out();
        if (problem->grey) grey.lay_out();
        if (in_parts) part.lay_out();
        else if (problem->colour) colour.lay_out();
    }

    // False where the picture has too many colours.
    bool prepare(const float* maps, const uint8_t* picture) {
        const int classes = problem->classes, cols = problem->cols;
        const size_t pixels = (size_t)problem->rows * cols;
        for (int row = 0; row < problem->rows; ++row)
            for (int c = 0; c < classes; ++c) {
                float* to = costs + ((size_t)row * classes + c) * stride;
                memcpy(to, maps + c * pixels + (size_t)row * cols, cols * sizeof(float));
                for (int x = cols; x < stride; ++x) to[x] = 1;
                for (int x = 0; x < stride; x += WIDE) {
                    Wide value = *(Wide*)(to + x);
                    value = value < problem->floor ? Wide{} + problem->floor : value;
                    *(Wide*)(to + x) = Wide{} - logarithm(value);
                }
            }
        memset(message, 0, chunks * stride * sizeof(Lanes));
        if (problem->place) spatial.clear();
        if (problem->grey) grey.prepare(picture);
        if (in_parts) return part.prepare(picture, message);
        return !problem->colour || colour.prepare(picture, message);
    }

    // Turn messages into probabilities, in `planes` and `before`; return the largest change.
    // CLASSES: how many; 0: known at run time.
    template <int CLASSES> Wide soften(int row, Wide worst) {
        const int classes = CLASSES ? CLASSES : problem->classes;
        const float* cost = costs + (size_t)row * classes * stride;
        float* old = before + (size_t)row * classes * stride;
        for (int x = 0; x < stride; x += WIDE) {
            Wide scores[CLASSES ? CLASSES : MOST_CLASSES];
            for (int c = 0; c < classes; ++c)
                scores[c] = *(Wide*)(planes + c * stride + x) - *(const Wide*)(cost + c * stride + x);
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
                const Wide change = value - *(Wide*)(old + c * stride + x);
                const Wide size = change < 0.0f ? Wide{} - change : change;
                worst = size > worst ? size : worst;
                *(Wide*)(old + c * stride + x) = *(Wide*)(planes + c * stride + x) = value;
            }
        }
        return worst;
    }

    Wide soften_row(int row, Wide worst) {
        switch (problem->classes) {
            case 2: return soften<2>(row, worst);
            case 3: return soften<3>(row, worst);
            case 4: return soften<4>(row, worst);
            case 5: return soften<5>(row, worst);
            case 6: return soften<6>(row, worst);
            default: return soften<0>(row, worst);
        }
    }

    // Send the probabilities through the kernel on colour, into `out`.
    void filter_in_parts(float* out) {
        const int rows = problem->rows, cols = problem->cols, classes = problem->classes;
        for (int start = 0; start < classes; start += LANES) {
            const int count = classes - start < LANES ? classes - start : LANES;
            memset(planes, 0, LANES * stride * sizeof(float));
            for (int row = 0; row < rows; ++row) {
                const float* from = before + ((size_t)row * classes + start) * stride;
                memcpy(planes, from, count * stride * sizeof(float));
                for (int c = 0; c < LANES; c += TILE)
                    for (int x = 0; x < stride; x += TILE)
                        transpose(planes + c * stride + x, stride, (float*)q + x * LANES + c, LANES);
                part.add(row, q);
            }
            part.filter(classes);
            for (int row = 0; row < rows; ++row) {
                memset((void*)message, 0, stride * sizeof(Lanes));
                part.read(row, message);
                for (int c = 0; c < LANES; c += TILE)
                    for (int x = 0; x < stride; x += TILE)
                        transpose((float*)message + x * LANES + c, LANES, planes + c * stride + x, stride);
                for (int c = 0; c < count; ++c)
                    memcpy(out + ((size_t)(start + c) * rows + row) * cols, planes + c * stride, cols * sizeof(float));
            }
        }
        memset((void*)message, 0, chunks * stride * sizeof(Lanes));
        memset(planes, 0, chunks * LANES * stride * sizeof(float));
    }

    // One iteration; returns the largest change of a probability.
    float pass(bool first, bool last, const float* out) {
        const int n = CHUNKS ? CHUNKS : chunks, lanes = n * LANES, cols = problem->cols;
        Wide worst = {};
        for (int row = 0; row < problem->rows; ++row) {
            if (!first) {
                if (problem->place) spatial.read(row, message);
                else memset(message, 0, cols * n * sizeof(Lanes));
                if (problem->grey) grey.read(row, message);
                if (problem->colour && !in_parts) colour.read(row, message);
            }
            for (int c = 0; c < lanes; c += TILE)
                for (int x = 0; x < stride; x += TILE)
                    transpose((float*)message + x * lanes + c, lanes, planes + c * stride + x, stride);
            if (in_parts && !first)
                for (int c = 0; c < problem->classes; ++c) {
                    const float* sent = out + ((size_t)c * problem->rows + row) * cols;
                    for (int x = 0; x < cols; ++x) planes[c * stride + x] += sent[x];
                }
            worst = soften_row(row, worst);
            if (last) continue;
            for (int c = 0; c < lanes; c += TILE)
                for (int x = 0; x < stride; x += TILE)
                    transpose(planes + c * stride + x, stride, (float*)q + x * lanes + c, lanes);
            if (problem->place) spatial.add(row, q);
            if (problem->grey) grey.add(row, q);
            if (problem->colour && !in_parts) colour.add(row, q);
        }
        float largest = 0;
        for (int i = 0; i < WIDE; ++i) largest = worst[i] > largest ? worst[i] : largest;
        return largest;
    }

    // False where the picture has too many colours; `out` is left alone then.
    bool run(const float* maps, const uint8_t* picture, float* out) {
        if (!prepare(maps, picture)) return false;
        pass(true, false, out);
        float change = 0;
        for (int iteration = 1; iteration <= problem->iterations; ++iteration) {
            if (problem->place) spatial.filter(problem->classes);
            if (problem->grey) grey.filter(problem->classes);
            if (in_parts) filter_in_parts(out);
            else if (problem->colour) colour.filter(problem->classes);
            const float last = change;
            change = pass(false, iteration == problem->iterations, out);
            if (change <= SETTLED && change <= last * SHRINKING) break;
        }
        const int classes = problem->classes, rows = problem->rows, cols = problem->cols;
        for (int c = 0; c < classes; ++c)
            for (int row = 0; row < rows; ++row)
                memcpy(out + ((size_t)c * rows + row) * cols,
                       before + ((size_t)row * classes + c) * stride, cols * sizeof(float));
        return true;
    }
};

}  // namespace
