// The kernel on place and colour.
//
// A pixel lies between four vertices of the lattice of colours, and in a block of `fine` x `fine` pixels,
// which lies between four cells of place. What pixels of a block send to one vertex is summed first (a
// pair of block and vertex), and only pairs are interpolated between cells.
//
// A patch is the rectangle of cells that one vertex needs within one area of PATCH x PATCH cells. For each
// patch the cells of near vertices are added up, then blurred along place, while all of it stays in the
// first-level cache.
#pragma once

#include "blur.h"
#include "lattice.h"

#include <cmath>

namespace {

constexpr int PATCH = 16;
constexpr int AHEAD = 8;  // pairs whose cells are fetched before they are needed

template <typename V, int CHUNKS> struct ColourBilateral {
    struct Patch {
        int32_t top, left, bottom, right, cells;  // `cells`: where its own begin
    };
    // A pair's first cell, and the width of the patch that it is in.
    struct Pair {
        int32_t cell, width;
    };
    struct Near {
        int32_t patch;
        float tap;
    };

    struct Ordered {
        int64_t key;
        int32_t patch;
    };

    static int by_key(const void* a, const void* b) {
        const int64_t one = ((const Ordered*)a)->key, other = ((const Ordered*)b)->key;
        return (one > other) - (one < other);
    }

    const Colour* colour;
    int chunks, rows, cols, bands, blocks, areas_x;
    size_t cells;
    bool too_many;
    Vertices vertices;  // one for each patch
    Buffer<Patch> patches;
    Buffer<Ordered> order;
    Buffer<V> gathered, blurred;          // cells of all patches: sent, and received
    Buffer<V> summed, scratch;            // cells of one patch and around it
    Buffer<V> sum, value;                 // pairs of a band of blocks
    Buffer<int32_t> first_near, first_pair, pair_patch, stamps;
    Buffer<Pair> pairs;
    Buffer<Near> near;
    Buffer<float[CORNERS]> weights;
    Buffer<int32_t[CORNERS]> corners;

    void set(const Colour* given, int chunks_, int rows_, int cols_) {
        colour = given, chunks = chunks_, rows = rows_, cols = cols_, too_many = false;
        bands = (rows + colour->fine - 1) / colour->fine, blocks = (cols + colour->fine - 1) / colour->fine;
        areas_x = ((cols - 1) / colour->place.step + 1) / PATCH + 3;  // an unused one on both sides
    }

    int n() const { return CHUNKS ? CHUNKS : chunks; }

    // Find each pixel's pairs and weights; false where memory ran out, or where there are too many cells.
    bool prepare(const uint8_t* picture, V* pixels) {
        too_many = false;
        return find_vertices(picture) && find_pairs() && find_patches() && find_neighbours() && normalise(pixels);
    }

    // The middle of a block in cells: which, and how far behind it.
    float middle(int number, int length, int* cell) const {
        const int fine = colour->fine, step = colour->place.step, start = number * fine;
        const int end = start + fine < length ? start + fine : length;
        const float at = (start + end - 1) * 0.5f;
        *cell = (int)at / step;
        return (at - *cell * step) / step;
    }

    // The part of a vertex's key that says in which area it is.
    int64_t area(int y, int x) const { return (int64_t)(y * areas_x + x + 1) << KEY_BITS; }

    bool find_vertices(const uint8_t* picture) {
        const size_t pixels = (size_t)rows * cols;
        if (!weights.reserve(pixels) || !corners.reserve(pixels) || !vertices.clear()) return false;
        for (int row = 0; row < rows; ++row) {
            if (vertices.count > vertices.room() / 2 || row == 0)
                if (!vertices.grow((int64_t)CORNERS * cols)) return false;
            int y, x;
            middle(row / colour->fine, rows, &y);
            int64_t here = 0;
            for (int start = 0; start < cols; start += WIDE) {
                const int count = cols - start < WIDE ? cols - start : WIDE;
                Wide channels[3] = {};
                for (int c = 0; c < 3; ++c)
                    for (int i = 0; i < count; ++i) channels[c][i] = picture[c * pixels + (size_t)row * cols + start + i];
                const Simplices found = simplices(channels[0], channels[1], channels[2], colour->scale);
                for (int i = 0; i < count; ++i) {
                    if ((start + i) % colour->fine == 0) {
                        middle((start + i) / colour->fine, cols, &x);
                        here = area(y / PATCH, x / PATCH);
                    }
                    const size_t p = (size_t)row * cols + start + i;
                    for (int k = 0; k < CORNERS; ++k) {
                        const auto& corner = found.corner[k];
                        corners[p][k] = vertices.add(Vertices::key(corner[0][i], corner[1][i], corner[2][i]) + here);
                        weights[p][k] = found.weight[k][i];
                    }
                }
            }
        }
        return true;
    }

    // Number the pairs, and let `corners` hold a pixel's within its band.
    bool find_pairs() {
        const int fine = colour->fine;
        if (!stamps.reserve(vertices.count) || !first_pair.reserve((size_t)bands * blocks + 1)) return false;
        if (!pair_patch.reserve((size_t)CORNERS * rows * cols)) return false;
        memset(stamps.data, -1, vertices.count * sizeof(int32_t));
        int count = 0, most = 0;
        for (int band = 0; band < bands; ++band) {
            const int top = band * fine, bottom = top + fine < rows ? top + fine : rows, start = count;
            for (int block = 0; block < blocks; ++block) {
                const int left = block * fine, right = left + fine < cols ? left + fine : cols, here = count;
                first_pair[band * blocks + block] = here;
                for (int y = top; y < bottom; ++y)
                    for (int p = y * cols + left; p < y * cols + right; ++p)
                        for (int32_t& corner : corners[p]) {
                            if (stamps[corner] < here) {
                                pair_patch[count] = corner;
                                stamps[corner] = count++;
                            }
                            corner = (stamps[corner] - start) * n();
                        }
            }
            most = count - start > most ? count - start : most;
        }
        first_pair[bands * blocks] = count;
        if (!sum.reserve((size_t)most * n()) || !value.reserve((size_t)most * n())) return false;
        memset((void*)sum.data, 0, (size_t)most * n() * sizeof(V));
        return true;
    }

    bool find_patches() {
        if (!patches.reserve(vertices.count) || !order.reserve(vertices.count)) return false;
        for (int i = 0; i < vertices.count; ++i) patches[i] = {1 << 30, 1 << 30, 0, 0, 0};
        for (int band = 0, i = 0, y, x; band < bands; ++band) {
            middle(band, rows, &y);
            for (int block = 0; block < blocks; ++block) {
                middle(block, cols, &x);
                for (; i < first_pair[band * blocks + block + 1]; ++i) {
                    Patch& patch = patches[pair_patch[i]];
                    if (y < patch.top) patch.top = y;
                    if (x < patch.left) patch.left = x;
                    if (y + 2 > patch.bottom) patch.bottom = y + 2;
                    if (x + 2 > patch.right) patch.right = x + 2;
                }
            }
        }
        // Near vertices lie near each other, so that they are still in the cache.
        for (int i = 0; i < vertices.count; ++i) order[i] = {vertices.keys[i], i};
        qsort(order.data, vertices.count, sizeof(Ordered), by_key);
        cells = 0;
        for (int k = 0; k < vertices.count; ++k) {
            const int i = order[k].patch;
            patches[i].cells = (int)cells;
            cells += (size_t)(patches[i].bottom - patches[i].top) * (patches[i].right - patches[i].left);
        }
        too_many = cells > (size_t)colour->most_cells;
        if (too_many) return false;
        if (!pairs.reserve(first_pair[bands * blocks] + AHEAD)) return false;
        for (int band = 0, i = 0, y, x; band < bands; ++band) {
            middle(band, rows, &y);
            for (int block = 0; block < blocks; ++block) {
                middle(block, cols, &x);
                for (; i < first_pair[band * blocks + block + 1]; ++i) {
                    const Patch& patch = patches[pair_patch[i]];
                    const int width = patch.right - patch.left;
                    pairs[i] = {patch.cells + (y - patch.top) * width + x - patch.left, width};
                }
            }
        }
        memset((void*)(pairs.data + first_pair[bands * blocks]), 0, AHEAD * sizeof(Pair));
        const int side = PATCH + 1 + 2 * colour->place.reach;
        if (!gathered.reserve(cells * n()) || !blurred.reserve(cells * n() + WIDE)) return false;
        if (!summed.reserve((size_t)side * side * n() + WIDE) || !scratch.reserve((size_t)side * side * n() + WIDE)) return false;
        clear();
        return true;
    }

    bool find_neighbours() {
        if (!first_near.reserve(vertices.count + 1)) return false;
        const int areas = rows > (PATCH - 1) * colour->place.step || cols > (PATCH - 1) * colour->place.step;
        if (!near.reserve((size_t)vertices.count * colour->reach * (areas ? 9 : 1))) return false;
        int count = 0;
        for (int i = 0; i < vertices.count; ++i) {
            first_near[i] = count;
            for (int k = 0; k < colour->reach; ++k)
                for (int y = -areas; y <= areas; ++y)
                    for (int x = -areas; x <= areas; ++x) {
                        const int32_t* step = colour->steps[k];
                        const int64_t apart = Vertices::key(step[0], step[1], step[2]) + area(y, x - 1);
                        const int found = vertices.find(vertices.keys[i] + apart);
                        if (found >= 0 && touch(patches[i], patches[found])) near[count++] = {found, colour->taps[k]};
                    }
        }
        first_near[vertices.count] = count;
        return true;
    }

    bool touch(const Patch& a, const Patch& b) const {
        const int reach = colour->place.reach;
        return a.top - reach < b.bottom && b.top < a.bottom + reach && a.left - reach < b.right && b.left < a.right + reach;
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

    void clear() { memset((void*)gathered.data, 0, cells * n() * sizeof(V)); }

    void filter() { blur_all(colour->gain); }

    void blur_all(float gain) {
        switch (colour->place.reach) {
            case 1: return blur_all<1>(gain);
            case 2: return blur_all<2>(gain);
            case 3: return blur_all<3>(gain);
            case 4: return blur_all<4>(gain);
            case 5: return blur_all<5>(gain);
            default: return blur_all<MOST_REACH>(gain);
        }
    }

    template <int REACH> void blur_all(float gain) {
        float taps[REACH + 1], last[REACH + 1];
        for (int k = 0; k <= REACH; ++k) {
            taps[k] = k <= colour->place.reach ? colour->place.taps[k] : 0;
            last[k] = taps[k] * gain;
        }
        for (int k = 0; k < vertices.count; ++k) {
            const int i = order[k].patch;
            const Patch& here = patches[i];
            const int height = here.bottom - here.top, width = here.right - here.left;
            add_near(i, colour->place.reach);
            const int reach = colour->place.reach, wide = width + 2 * reach;
            for (int y = 0; y < height + 2 * reach; ++y)
                convolve<REACH>(summed.data + (y * wide + reach) * n(), scratch.data + y * width * n(), width * n(), n(), taps);
            convolve<REACH>(scratch.data + reach * width * n(), blurred.data + (size_t)here.cells * n(), height * width * n(), width * n(), last);
        }
    }

    // Sum the cells of near vertices, in and around a patch.
    void add_near(int i, int reach) {
        const Patch& here = patches[i];
        const int top = here.top - reach, left = here.left - reach;
        const int bottom = here.bottom + reach, right = here.right + reach, width = right - left;
        memset((void*)summed.data, 0, (size_t)(bottom - top) * width * n() * sizeof(V));
        for (int k = first_near[i]; k < first_near[i + 1]; ++k) {
            const Patch& there = patches[near[k].patch];
            const int y0 = there.top > top ? there.top : top, y1 = there.bottom < bottom ? there.bottom : bottom;
            const int x0 = there.left > left ? there.left : left, x1 = there.right < right ? there.right : right;
            const int length = (x1 - x0) * n(), stride = (there.right - there.left) * n();
            const V* from = gathered.data + (size_t)there.cells * n() + (y0 - there.top) * stride + (x0 - there.left) * n();
            V* to = summed.data + ((y0 - top) * width + x0 - left) * n();
            for (int y = y0; y < y1; ++y, from += stride, to += width * n()) {
                int j = 0;
                for (; j + 4 <= length; j += 4) add_times<4>(to + j, from + j, near[k].tap);
                for (; j < length; ++j) add_times<1>(to + j, from + j, near[k].tap);
            }
        }
    }

    template <int COUNT> static void add_times(V* to, const V* from, float weight) {
        V sums[COUNT];
        for (int k = 0; k < COUNT; ++k) sums[k] = to[k] + from[k] * weight;
        for (int k = 0; k < COUNT; ++k) to[k] = sums[k];
    }

    // Blur `count` vectors between those that are `inner` apart. What is written behind them is
    // overwritten when its turn comes.
    template <int REACH> static void convolve(const V* from, V* to, int count, int inner, const float* taps) {
        const float* in = (const float*)from;
        float* out = (float*)to;
        inner *= LANES<V>, count *= LANES<V>;
        for (int j = 0; j < count; j += WIDE) {
            Wide total = *(const WideAnywhere*)(in + j) * taps[0];
            for (int k = 1; k <= REACH; ++k)
                total += (*(const WideAnywhere*)(in + j - k * inner) + *(const WideAnywhere*)(in + j + k * inner)) * taps[k];
            *(WideAnywhere*)(out + j) = total;
        }
    }

    // Let the pairs of a band of blocks receive, where a row is its first.
    void open(int row, int classes) {
        if (row % colour->fine) return;
        const int band = row / colour->fine;
        int y, x;
        const float below = middle(band, rows, &y), above = 1 - below;
        for (int block = 0; block < blocks; ++block) {
            const float right = middle(block, cols, &x), left = 1 - right;
            const float a = above * left, b = above * right, c = below * left, d = below * right;
            const int start = first_pair[band * blocks + block], end = first_pair[band * blocks + block + 1];
            V* const first = value.data + (start - first_pair[band * blocks]) * n();
            V* to = first;
            for (int i = start; i < end; ++i) {
                fetch(blurred.data, pairs[i + AHEAD]);
                const V *upper = blurred.data + (size_t)pairs[i].cell * n(), *lower = upper + pairs[i].width * n();
                for (int k = 0; k < n(); ++k)
                    *to++ = upper[k] * a + upper[n() + k] * b + (lower[k] * c + lower[n() + k] * d);
            }
            if (colour->gains && classes) mix((float*)first, end - start, n() * LANES<V>, classes, colour->gains);
        }
    }

    // Let the pairs of a band of blocks send, where a row is its last.
    void close(int row) {
        if (row % colour->fine != colour->fine - 1 && row != rows - 1) return;
        const int band = row / colour->fine;
        int y, x;
        const float below = middle(band, rows, &y), above = 1 - below;
        for (int block = 0; block < blocks; ++block) {
            const float right = middle(block, cols, &x), left = 1 - right;
            const float a = above * left, b = above * right, c = below * left, d = below * right;
            const int start = first_pair[band * blocks + block], end = first_pair[band * blocks + block + 1];
            V* from = sum.data + (start - first_pair[band * blocks]) * n();
            for (int i = start; i < end; ++i) {
                fetch(gathered.data, pairs[i + AHEAD]);
                V *upper = gathered.data + (size_t)pairs[i].cell * n(), *lower = upper + pairs[i].width * n();
                for (int k = 0; k < n(); ++k) {
                    upper[k] += *from * a;
                    upper[n() + k] += *from * b;
                    lower[k] += *from * c;
                    lower[n() + k] += *from * d;
                    *from++ = V{};
                }
            }
        }
    }

    void fetch(const V* cells, const Pair& pair) const {
        const V *upper = cells + (size_t)pair.cell * n(), *lower = upper + pair.width * n();
        __builtin_prefetch(upper);
        __builtin_prefetch(upper + n());
        __builtin_prefetch(lower);
        __builtin_prefetch(lower + n());
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
