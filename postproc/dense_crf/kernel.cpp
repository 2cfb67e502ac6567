// Mean-field inference on a bilateral grid, for blocks of grey pictures.
//
// Built several times, for machines with different vector units (VARIANT names the one at hand);
// dispatch.cpp chooses. Nothing here is visible outside but `infer_VARIANT`, and no template of the
// standard library is used, so that no code for a newer machine slips into an older one's path.
//
// A row of pixels is treated in one go, so that all it touches stays in the first-level cache:
// read the messages from the grids, softmax, add the new probabilities to the next grids. Channels
// lie together, padded to 8 lanes; the softmax alone works on planes, pixel beside pixel.

#include "kernel.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;
#elif defined(__AVX2__)
constexpr int WIDE = 8;
#else
constexpr int WIDE = 4;
#endif
constexpr int LANES = 8, ROW_UNIT = 16, STREAMS = 4, USUAL_STEP = 3, MOST_REACH = 8, MOST_CLASSES = 256;
constexpr float TINY = 1e-20f;

// A picture has settled when no probability moved by more than SETTLED, and the moves shrink so fast
// that all later ones together come to a tenth of it.
constexpr float SETTLED = 1e-4f, SHRINKING = 0.1f;

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t LanesInt __attribute__((vector_size(4 * LANES)));
typedef float Wide __attribute__((vector_size(4 * WIDE)));
typedef int32_t WideInt __attribute__((vector_size(4 * WIDE)));
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInt __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE(type, whole, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, whole, a, b, ...) __builtin_shuffle(a, b, (whole){__VA_ARGS__})
#endif

// Coefficients of exp and log: S. L. Moshier, Cephes Math Library, expf.c and logf.c.
inline Wide exponential(Wide x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    x = x < -87.0f ? Wide{} - 87.0f : x;
    Wide shifted = x * 1.44269504f + magic;
    Wide whole = shifted - magic;
    x = x - whole * 0.693147181f;
    Wide y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    return y * (Wide)(((WideInt)shifted << 23) + 0x3f800000);
}

inline Wide logarithm(Wide value) {
    WideInt bits = (WideInt)value - 0x3f3504f3;  // mantissa from sqrt(1/2)
    Wide exponent = __builtin_convertvector(bits >> 23, Wide);
    Wide x = (Wide)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
    Wide y = x * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * x + 1.1676998740e-1f;
    y = y * x - 1.2420140846e-1f;
    y = y * x + 1.4249322787e-1f;
    y = y * x - 1.6668057665e-1f;
    y = y * x + 2.0000714765e-1f;
    y = y * x - 2.4999993993e-1f;
    y = y * x + 3.3333331174e-1f;
    y = y * x * x * x - 0.5f * x * x - exponent * 2.12194440e-4f + x + exponent * 0.693359375f;
    return value == value ? y : value;
}

// Memory for one picture's work, taken in pieces.
struct Arena {
    char* start;
    size_t used, size;
    template <typename T> T* take(size_t count) {
        T* piece = start ? (T*)(start + used) : nullptr;
        used += (count * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
};

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
    float mixed[256];
    for (int cell = 0; cell < count; ++cell, cells += lanes) {
        for (int c = 0; c < classes; ++c) {
            float sum = 0;
            for (int other = 0; other < classes; ++other) sum += gains[c * classes + other] * cells[other];
            mixed[c] = sum;
        }
        memcpy(cells, mixed, classes * sizeof(float));
    }
}

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

// The kernel on place alone. CHUNKS is the number of 8 lanes a cell has; 0: known at run time.
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

    void filter(int cells_y, int cells_x, int n, const Colour& colour, float gain) {
        const int levels = width / cells_x;
        blur(gathered, scratch, cells_y * cells_x, levels / n, n, colour.level, 1.0f);
        blur(scratch, gathered, cells_y, cells_x, levels, colour.place, 1.0f);
        blur(gathered, blurred, 1, cells_y, width, colour.place, gain);
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

// The kernel on place and grey level.
template <int CHUNKS> struct Bilateral {
    const Colour* colour;
    int chunks, rows, cols, cells_y, cells_x, levels;
    Cells<Lanes> cells;
    Cells<float> ones;
    float *share_x, (*weights)[4];
    int32_t *cell_x, *cell_of, *spread;

    void take(Arena& arena) {
        const int most = 255 / colour->level.step + 2;
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
        const int step = colour->place.step, part = cols / STREAMS;
        for (int x = 0; x < cols; ++x) {
            cell_x[x] = x / step;
            share_x[x] = float(x % step) / step;
            // Neighbours often share cells, and each sum would wait for the one before: go in strides.
            spread[x] = x < STREAMS * part ? x % STREAMS * part + x / STREAMS : x;
        }
        cells.step = ones.step = step;
        cells.rows = ones.rows = rows;
    }

    // Find each pixel's cells and weights; normalise by what a map of ones receives.
    void prepare(const uint8_t* grey) {
        int low = 255, high = 0;
        for (int p = 0; p < rows * cols; ++p) {
            low = grey[p] < low ? grey[p] : low;
            high = grey[p] > high ? grey[p] : high;
        }
        const int step = colour->level.step;
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
                const float fx = share_x[x], fl = share_of_level[grey[p]];
                float* w = weights[p];
                w[3] = fx * fl, w[2] = fx - w[3], w[1] = fl - w[3], w[0] = 1 - fx - w[1];
                cell_of[p] = cell_x[x] * levels + cell_of_level[grey[p]];
                for (int k = 0; k < 4; ++k) ones.sum[cell_of[p] + (k >> 1) * levels + (k & 1)] += w[k];
            }
            ones.close(y);
        }
        ones.filter(cells_y, cells_x, 1, *colour, 1.0f);
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
        cells.filter(cells_y, cells_x, n, *colour, colour->gain);
        if (colour->gains)
            mix((float*)cells.blurred, cells_y * cells.width / n, n * LANES, classes, colour->gains);
        cells.clear(cells_y);
    }

    void read(int row, Lanes* message) {
        const int n = CHUNKS ? CHUNKS : chunks;
        cells.slide(row);
        for (int x = 0; x < cols; ++x) {
            const float* w = weights[row * cols + x];
            for (int chunk = 0; chunk < n; ++chunk) {
                const Lanes* left = cells.line + cell_of[row * cols + x] + chunk;
                const Lanes* right = left + levels;
                message[x * n + chunk] +=
                    left[0] * w[0] + left[n] * w[1] + (right[0] * w[2] + right[n] * w[3]);
            }
        }
    }

    void add(int row, const Lanes* q) {
        const int n = CHUNKS ? CHUNKS : chunks;
        cells.open(row);
        for (int i = 0; i < cols; ++i) {
            const int x = spread[i];
            const float* w = weights[row * cols + x];
            for (int chunk = 0; chunk < n; ++chunk) {
                const Lanes value = q[x * n + chunk];
                Lanes* left = cells.sum + cell_of[row * cols + x] + chunk;
                Lanes* right = left + levels;
                left[0] += value * w[0];
                left[n] += value * w[1];
                right[0] += value * w[2];
                right[n] += value * w[3];
            }
        }
        cells.close(row);
    }
};

template <int CHUNKS> struct Field {
    const Problem* problem;
    int chunks, stride;
    Spatial<CHUNKS> spatial;
    Bilateral<CHUNKS> bilateral;
    float *costs, *before, *planes;
    Lanes *message, *q;

    explicit Field(const Problem* p) : problem(p), chunks((p->classes + LANES - 1) / LANES) {
        stride = (p->cols + ROW_UNIT - 1) / ROW_UNIT * ROW_UNIT;
        if (p->place) {
            const int step = p->place->axis.step;
            const int y = (p->rows - 1) / step + 2, x = (p->cols - 1) / step + 2;
            spatial = {p->place, chunks, p->rows, p->cols, y, x, y * x * chunks};
        }
        if (p->colour) {
            const int step = p->colour->place.step;
            const int y = (p->rows - 1) / step + 2, x = (p->cols - 1) / step + 2;
            bilateral = {p->colour, chunks, p->rows, p->cols, y, x};
        }
    }

    void take(Arena& arena) {
        costs = arena.take<float>((size_t)problem->rows * problem->classes * stride);
        before = arena.take<float>((size_t)problem->rows * problem->classes * stride);
        planes = arena.take<float>(chunks * LANES * stride);
        message = arena.take<Lanes>(chunks * stride);
        q = arena.take<Lanes>(chunks * stride);
        if (problem->place) spatial.take(arena);
        if (problem->colour) bilateral.take(arena);
    }

    void lay_out() {
        memset(before, 0, (size_t)problem->rows * problem->classes * stride * sizeof(float));
        memset(planes, 0, chunks * LANES * stride * sizeof(float));
        if (problem->place) spatial.lay_out();
        if (problem->colour) bilateral.lay_out();
    }

    void prepare(const float* maps, const uint8_t* grey) {
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
        if (problem->colour) bilateral.prepare(grey);
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

    // One iteration; returns the largest change of a probability.
    float pass(bool first, bool last) {
        const int n = CHUNKS ? CHUNKS : chunks, lanes = n * LANES, cols = problem->cols;
        Wide worst = {};
        for (int row = 0; row < problem->rows; ++row) {
            if (!first) {
                if (problem->place) spatial.read(row, message);
                else memset(message, 0, cols * n * sizeof(Lanes));
                if (problem->colour) bilateral.read(row, message);
            }
            for (int c = 0; c < lanes; c += TILE)
                for (int x = 0; x < stride; x += TILE)
                    transpose((float*)message + x * lanes + c, lanes, planes + c * stride + x, stride);
            worst = soften_row(row, worst);
            if (last) continue;
            for (int c = 0; c < lanes; c += TILE)
                for (int x = 0; x < stride; x += TILE)
                    transpose(planes + c * stride + x, stride, (float*)q + x * lanes + c, lanes);
            if (problem->place) spatial.add(row, q);
            if (problem->colour) bilateral.add(row, q);
        }
        float largest = 0;
        for (int i = 0; i < WIDE; ++i) largest = worst[i] > largest ? worst[i] : largest;
        return largest;
    }

    void run(const float* maps, const uint8_t* grey, float* out) {
        prepare(maps, grey);
        pass(true, false);
        float change = 0;
        for (int iteration = 1; iteration <= problem->iterations; ++iteration) {
            if (problem->place) spatial.filter(problem->classes);
            if (problem->colour) bilateral.filter(problem->classes);
            const float last = change;
            change = pass(false, iteration == problem->iterations);
            if (change <= SETTLED && change <= last * SHRINKING) break;
        }
        const int classes = problem->classes, rows = problem->rows, cols = problem->cols;
        for (int c = 0; c < classes; ++c)
            for (int row = 0; row < rows; ++row)
                memcpy(out + ((size_t)c * rows + row) * cols,
                       before + ((size_t)row * classes + c) * stride, cols * sizeof(float));
    }
};

template <int CHUNKS>
int infer(const Problem* problem, const float* maps, const uint8_t* grey, float* out) {
    Field<CHUNKS> field(problem);
    Arena arena = {};
    field.take(arena);
    arena.size = arena.used;
    arena.start = (char*)aligned_alloc(64, arena.size);
    if (!arena.start) return 1;
    arena.used = 0;
    field.take(arena);
    field.lay_out();
    const size_t pixels = (size_t)problem->rows * problem->cols, values = pixels * problem->classes;
    for (int picture = 0; picture < problem->pictures; ++picture)
        field.run(maps + picture * values, grey ? grey + picture * pixels : nullptr, out + picture * values);
    free(arena.start);
    return 0;
}

}  // namespace

#define JOIN(a, b) a##b
#define NAMED(variant) JOIN(infer_, variant)

int NAMED(VARIANT)(const Problem* problem, const float* maps, const uint8_t* grey, float* out) {
    if (problem->classes <= LANES) return infer<1>(problem, maps, grey, out);
    return infer<0>(problem, maps, grey, out);
}
