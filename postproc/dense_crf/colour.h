// The kernel on place and colour.
//
// A pixel lies between four vertices of the lattice of colours, and in a block of `fine` x `fine` pixels,
// which lies between four cells of place. What pixels of a block send to one vertex is summed first (a
// pair of block and vertex), and only pairs are interpolated between cells. Vertices receive from their
// neighbours, whole rows of cells at a time, where pixels read them.
#pragma once

#include "blur.h"
#include "lattice.h"

#include <cmath>

namespace {

template <typename V, int CHUNKS> struct ColourBilateral {
    struct Span {
        int32_t low, high;
    };
    // A vertex to receive from: where its row 0 of cells would lie, and the rows that it has.
    struct Near {
        int32_t row, low, high;
        float tap;
    };

    const Colour* colour;
    int chunks, rows, cols, cells_y, cells_x, bands, blocks;
    Vertices vertices;
    Buffer<V> gathered, spread, blurred;  // cells of all vertices: sent, blurred along place, and received
    Buffer<V> line, scratch, sum, value;  // cells of one vertex; pairs of a band of blocks
    Buffer<Span> seen, reached, columns;  // by vertex: rows of cells that pixels touch; that blurs reach
    Buffer<int32_t> seen_at, reached_at, stamps, first_near;
    Buffer<int32_t> first_pair, pair_vertex, pair_cell;
    Buffer<Near> near, chosen;
    Buffer<float[CORNERS]> weights;
    Buffer<int32_t[CORNERS]> corners;

    // Cells of a row make whole wide vectors.
    void set(const Colour* given, int chunks_, int rows_, int cols_) {
        colour = given, chunks = chunks_, rows = rows_, cols = cols_;
        const int step = colour->place.step, fine = colour->fine;
        cells_y = (rows - 1) / step + 2;
        cells_x = round_up((cols - 1) / step + 2, WIDE > LANES<V> ? WIDE / LANES<V> : 1);
        bands = (rows + fine - 1) / fine, blocks = (cols + fine - 1) / fine;
    }

    int n() const { return CHUNKS ? CHUNKS : chunks; }

    // Find each pixel's pairs and weights; false where memory ran out.
    bool prepare(const uint8_t* picture, V* pixels) {
        return find_vertices(picture) && find_pairs() && place_cells() && find_neighbours() && normalise(pixels);
    }

    bool find_vertices(const uint8_t* picture) {
        const size_t pixels = (size_t)rows * cols;
        if (!weights.reserve(pixels) || !corners.reserve(pixels) || !vertices.clear()) return false;
        for (size_t p = 0; p < pixels; ++p) {
            if (vertices.full()) {
                if (!vertices.fit(vertices.bits + 2)) return false;
                p = 0;
            }
            const Simplex found = simplex(picture + p, pixels, colour->scale);
            for (int k = 0; k < CORNERS; ++k) {
                corners[p][k] = vertices.add(Vertices::key(found.corner[k]));
                weights[p][k] = found.weight[k];
            }
        }
        return true;
    }

    // Number the pairs, and let `corners` hold a pixel's within its band.
    bool find_pairs() {
        const int fine = colour->fine;
        if (!stamps.reserve(vertices.count) || !first_pair.reserve(bands * blocks + 1)) return false;
        if (!pair_vertex.reserve((size_t)CORNERS * rows * cols)) return false;
        memset(stamps.data, -1, vertices.count * sizeof(int32_t));
        int count = 0;
        for (int band = 0; band < bands; ++band) {
            const int top = band * fine, bottom = top + fine < rows ? top + fine : rows, start = count;
            for (int block = 0; block < blocks; ++block) {
                const int left = block * fine, right = left + fine < cols ? left + fine : cols, here = count;
                first_pair[band * blocks + block] = here;
                for (int y = top; y < bottom; ++y)
                    for (int p = y * cols + left; p < y * cols + right; ++p)
                        for (int32_t& corner : corners[p]) {
                            if (stamps[corner] < here) {
                                pair_vertex[count] = corner;
                                stamps[corner] = count++;
                            }
                            corner = (stamps[corner] - start) * n();
                        }
            }
        }
        first_pair[bands * blocks] = count;
        return true;
    }

    // The middle of a block in cells: which, and how far behind it.
    float middle(int number, int length, int* cell) const {
        const int fine = colour->fine, step = colour->place.step, start = number * fine;
        const int end = start + fine < length ? start + fine : length;
        const float at = (start + end - 1) * 0.5f;
        *cell = (int)at / step;
        return (at - *cell * step) / step;
    }

    bool place_cells() {
        const int count = vertices.count, all = first_pair[bands * blocks];
        if (!seen.reserve(count) || !reached.reserve(count) || !columns.reserve(count)) return false;
        if (!seen_at.reserve(count) || !reached_at.reserve(count) || !pair_cell.reserve(all)) return false;
        for (int vertex = 0; vertex < count; ++vertex) seen[vertex] = columns[vertex] = {1 << 30, 0};
        for (int band = 0, i = 0, y, x; band < bands; ++band) {
            middle(band, rows, &y);
            for (int block = 0; block < blocks; ++block) {
                middle(block, cols, &x);
                for (; i < first_pair[band * blocks + block + 1]; ++i) {
                    widen(seen[pair_vertex[i]], y);
                    widen(columns[pair_vertex[i]], x);
                }
            }
        }
        size_t touched = 0, reachable = 0;
        for (int vertex = 0; vertex < count; ++vertex) {
            const int low = seen[vertex].low - colour->place.reach, high = seen[vertex].high + colour->place.reach;
            reached[vertex] = {low > 0 ? low : 0, high < cells_y ? high : cells_y};
            seen_at[vertex] = (int)touched - seen[vertex].low;
            reached_at[vertex] = (int)reachable - reached[vertex].low;
            touched += seen[vertex].high - seen[vertex].low;
            reachable += reached[vertex].high - reached[vertex].low;
        }
        int most = 0;
        for (int band = 0, i = 0, y, x; band < bands; ++band) {
            middle(band, rows, &y);
            for (int block = 0; block < blocks; ++block) {
                middle(block, cols, &x);
                for (; i < first_pair[band * blocks + block + 1]; ++i)
                    pair_cell[i] = (seen_at[pair_vertex[i]] + y) * cells_x + x;
            }
            const int here = i - first_pair[band * blocks];
            most = here > most ? here : most;
        }
        const size_t width = (size_t)cells_x * n(), spare = 8 * WIDE;
        const int reach = colour->place.reach;
        if (!gathered.reserve(touched * width) || !blurred.reserve(touched * width + spare)) return false;
        if (!spread.reserve(reachable * width + spare)) return false;
        if (!scratch.reserve((cells_y + 4 * reach) * width)) return false;
        if (!line.reserve(width + 2 * reach * n()) || !sum.reserve((size_t)most * n()) || !value.reserve((size_t)most * n())) return false;
        memset((void*)gathered.data, 0, touched * width * sizeof(V));
        memset((void*)line.data, 0, (width + 2 * reach * n()) * sizeof(V));
        memset((void*)sum.data, 0, (size_t)most * n() * sizeof(V));
        cells = touched * width;
        return true;
    }
    size_t cells;

    static void widen(Span& span, int cell) {
        if (cell < span.low) span.low = cell;
        if (cell + 2 > span.high) span.high = cell + 2;
    }

    // Those that have all the rows which a vertex reads come first.
    bool find_neighbours() {
        const int count = vertices.count;
        if (!first_near.reserve(2 * count + 1) || !near.reserve((size_t)count * colour->reach)) return false;
        if (!chosen.reserve(colour->reach)) return false;
        int among = 0;
        for (int vertex = 0; vertex < count; ++vertex) {
            const Span here = seen[vertex];
            first_near[2 * vertex] = among;
            int partial = 0;
            for (int k = 0; k < colour->reach; ++k) {
                const int found = vertices.find(vertices.keys[vertex] + Vertices::key(colour->steps[k]));
                if (found < 0) continue;
                const Span there = reached[found];
                const Near one = {reached_at[found], there.low, there.high, colour->taps[k]};
                if (there.low <= here.low && there.high >= here.high) near[among++] = one;
                else if (there.low < here.high && there.high > here.low) chosen[partial++] = one;
            }
            first_near[2 * vertex + 1] = among;
            for (int k = 0; k < partial; ++k) near[among++] = chosen[k];
        }
        first_near[2 * count] = among;
        return true;
    }

    // Divide by the root of what a map of ones receives.
    bool normalise(V* pixels) {
        for (int j = 0; j < cols * n(); ++j) pixels[j] = V{} + 1.0f;
        for (int row = 0; row < rows; ++row) {
            add(row, 0, cols, pixels);
            close(row);
        }
        blur_all(1.0f);
        for (int row = 0; row < rows; ++row) {
            memset((void*)pixels, 0, cols * n() * sizeof(V));
            open(row, 0);
            read(row, 0, cols, pixels);
            for (int x = 0; x < cols; ++x) {
                const float total = pixels[x * n()][0];
                for (float& weight : weights[row * cols + x]) weight /= sqrtf(total > TINY ? total : TINY);
            }
        }
        memset((void*)pixels, 0, cols * n() * sizeof(V));
        clear();
        return true;
    }

    void clear() { memset((void*)gathered.data, 0, cells * sizeof(V)); }

    void filter() { blur_all(colour->gain); }

    void blur_all(float gain) {
        const int width = cells_x * n(), reach = colour->place.reach;
        for (int vertex = 0; vertex < vertices.count; ++vertex) {
            const Span from = seen[vertex], to = reached[vertex];
            V* const top = scratch.data + reach * width;  // row `to.low`
            memset((void*)scratch.data, 0, (from.low - to.low + reach) * width * sizeof(V));
            memset((void*)(top + (from.high - to.low) * width), 0, (to.high - from.high + reach) * width * sizeof(V));
            for (int y = from.low; y < from.high; ++y) {
                memcpy((void*)(line.data + reach * n()), gathered.data + (size_t)(seen_at[vertex] + y) * width, width * sizeof(V));
                convolve(line.data + reach * n(), top + (y - to.low) * width, width, n(), 1.0f);
            }
            convolve(top, spread.data + (size_t)(reached_at[vertex] + to.low) * width, (to.high - to.low) * width, width, gain);
        }
        for (int vertex = 0; vertex < vertices.count; ++vertex) receive(vertex);
    }

    void convolve(const V* from, V* to, int count, int inner, float scale) const {
        switch (colour->place.reach) {
            case 1: return convolve<1>(from, to, count, inner, scale);
            case 2: return convolve<2>(from, to, count, inner, scale);
            case 3: return convolve<3>(from, to, count, inner, scale);
            case 4: return convolve<4>(from, to, count, inner, scale);
            case 5: return convolve<5>(from, to, count, inner, scale);
            default: return convolve<MOST_REACH>(from, to, count, inner, scale);
        }
    }

    // Blur `count` vectors, which lie beside zeros, between those that are `inner` apart.
    template <int REACH> void convolve(const V* from, V* to, int count, int inner, float scale) const {
        float taps[REACH + 1];
        for (int k = 0; k <= REACH; ++k) taps[k] = k <= colour->place.reach ? colour->place.taps[k] * scale : 0;
        const float* in = (const float*)from;
        float* out = (float*)to;
        inner *= LANES<V>, count *= LANES<V>;
        for (int j = 0; j < count; j += WIDE) {
            Wide total = *(const WideAnywhere*)(in + j) * taps[0];
            for (int k = 1; k <= REACH; ++k)
                total += (*(const WideAnywhere*)(in + j - k * inner) + *(const WideAnywhere*)(in + j + k * inner)) * taps[k];
            *(Wide*)(out + j) = total;
        }
    }

    // What lies behind the end of the last block is overwritten when its turn comes, or never read.
    void receive(int vertex) {
        const int width = cells_x * n() * LANES<V>, unit = n() * LANES<V>;
        const int start = columns[vertex].low * unit / WIDE * WIDE, end = columns[vertex].high * unit;
        const Near *whole = &near[first_near[2 * vertex]], *parts = &near[first_near[2 * vertex + 1]];
        const Near* stop = &near[first_near[2 * vertex + 2]];
        for (int y = seen[vertex].low; y < seen[vertex].high; ++y) {
            const Near* list = whole;
            int count = (int)(parts - whole);
            if (parts < stop) {
                memcpy((void*)chosen.data, whole, count * sizeof(Near));
                for (const Near* each = parts; each < stop; ++each)
                    if (each->low <= y && y < each->high) chosen[count++] = *each;
                list = chosen.data;
            }
            const float* from = (const float*)spread.data + (size_t)y * width;
            float* to = (float*)blurred.data + (size_t)(seen_at[vertex] + y) * width;
            int j = start;
            for (; j + 4 * WIDE < end; j += 8 * WIDE) total<8>(list, count, from + j, width, to + j);
            for (; j + WIDE < end; j += 4 * WIDE) total<4>(list, count, from + j, width, to + j);
            for (; j < end; j += WIDE) total<1>(list, count, from + j, width, to + j);
        }
    }

    template <int BLOCK> static void total(const Near* list, int count, const float* from, int64_t width, float* to) {
        Wide sums[BLOCK] = {};
        for (int i = 0; i < count; ++i) {
            const float* cells = from + list[i].row * width;
            for (int k = 0; k < BLOCK; ++k) sums[k] += *(const Wide*)(cells + k * WIDE) * list[i].tap;
        }
        for (int k = 0; k < BLOCK; ++k) *(Wide*)(to + k * WIDE) = sums[k];
    }

    // Let the pairs of a band of blocks receive, where a row is its first.
    void open(int row, int classes) {
        if (row % colour->fine) return;
        const int band = row / colour->fine, width = cells_x * n();
        int y, x, i = first_pair[band * blocks];
        const float below = middle(band, rows, &y), above = 1 - below;
        V* to = value.data;
        for (int block = 0; block < blocks; ++block) {
            const float right = middle(block, cols, &x), left = 1 - right;
            const float a = above * left, b = above * right, c = below * left, d = below * right;
            for (; i < first_pair[band * blocks + block + 1]; ++i)
                for (int chunk = 0; chunk < n(); ++chunk) {
                    const V* cell = blurred.data + (size_t)pair_cell[i] * n() + chunk;
                    *to++ = cell[0] * a + cell[n()] * b + (cell[width] * c + cell[width + n()] * d);
                }
        }
        if (colour->gains && classes)
            mix((float*)value.data, (int)(to - value.data) / n(), n() * LANES<V>, classes, colour->gains);
    }

    // Let the pairs of a band of blocks send, where a row is its last.
    void close(int row) {
        if (row % colour->fine != colour->fine - 1 && row != rows - 1) return;
        const int band = row / colour->fine, width = cells_x * n();
        int y, x, i = first_pair[band * blocks];
        const float below = middle(band, rows, &y), above = 1 - below;
        V* from = sum.data;
        for (int block = 0; block < blocks; ++block) {
            const float right = middle(block, cols, &x), left = 1 - right;
            const float a = above * left, b = above * right, c = below * left, d = below * right;
            for (; i < first_pair[band * blocks + block + 1]; ++i)
                for (int chunk = 0; chunk < n(); ++chunk, ++from) {
                    V* cell = gathered.data + (size_t)pair_cell[i] * n() + chunk;
                    cell[0] += *from * a;
                    cell[n()] += *from * b;
                    cell[width] += *from * c;
                    cell[width + n()] += *from * d;
                    *from = V{};
                }
        }
    }

    void read(int row, int start, int end, V* message) const {
        for (int x = start; x < end; ++x) {
            const float* weight = weights[(size_t)row * cols + x];
            const int32_t* corner = corners[(size_t)row * cols + x];
            for (int chunk = 0; chunk < n(); ++chunk) {
                const V* from = value.data + chunk;
                message[x * n() + chunk] += from[corner[0]] * weight[0] + from[corner[1]] * weight[1] +
                                            (from[corner[2]] * weight[2] + from[corner[3]] * weight[3]);
            }
        }
    }

    void add(int row, int start, int end, const V* q) {
        for (int x = start; x < end; ++x) {
            const float* weight = weights[(size_t)row * cols + x];
            const int32_t* corner = corners[(size_t)row * cols + x];
            for (int chunk = 0; chunk < n(); ++chunk)
                for (int k = 0; k < CORNERS; ++k) sum[corner[k] + chunk] += q[x * n() + chunk] * weight[k];
        }
    }
};

}  // namespace
