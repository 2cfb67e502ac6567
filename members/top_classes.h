// Maps of many classes by the few that are largest in each pixel: their probabilities in steps of
// 1/255, and which classes they are. What is left to 255 is spread evenly over the other classes, to
// which those of the few that are rounded to nothing belong.
//
// An image of bytes has 2 k planes: the k probabilities, the largest first, then the k classes.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace top_classes {

constexpr int64_t kTile = 2048;  // pixels that are worked on at a time, in the cache
constexpr int kSteps = 255;

struct Maps {
    int64_t images, k, classes, pixels;
};

struct Error {
    double largest, sum;
};

// The probabilities of a tile of one image, as they are read.
struct Tile {
    std::vector<float> rest, value;  // value: (k, pixel)
    std::vector<uint8_t> kept;       // how many classes are more than nothing
    bool present[256];               // among the classes that are stored

    // Takes `count` pixels of an image of bytes from `start` on.
    void take(const uint8_t* bytes, const Maps& maps, int64_t start, int64_t count) {
        rest.assign(size_t(count), float(kSteps));
        kept.assign(size_t(count), 0);
        value.resize(size_t(maps.k * count));
        std::fill(present, present + 256, false);
        constexpr float kStep = float(1.0 / kSteps);
        for (int64_t j = 0; j < maps.k; ++j) {
            const uint8_t* steps = bytes + j * maps.pixels + start;
            const uint8_t* names = bytes + (maps.k + j) * maps.pixels + start;
            float* to = value.data() + j * count;
            for (int64_t k = 0; k < count; ++k) {
                to[k] = float(steps[k]) * kStep;
                rest[size_t(k)] -= float(steps[k]);
                kept[size_t(k)] = uint8_t(kept[size_t(k)] + (steps[k] > 0));
            }
            for (int64_t k = 0; k < count; ++k) present[names[k]] = true;
        }
        for (int64_t k = 0; k < count; ++k)
            rest[size_t(k)] *= kStep / float(maps.classes - kept[size_t(k)]);
    }

    // The probability of a class in each pixel, to `out`.
    void of_class(const uint8_t* bytes, const Maps& maps, int64_t start, int64_t count,
                  int64_t label, float* out) const {
        std::copy(rest.begin(), rest.end(), out);
        if (!present[label]) return;
        for (int64_t j = 0; j < maps.k; ++j) {
            const uint8_t* names = bytes + (maps.k + j) * maps.pixels + start;
            const float* from = value.data() + j * count;
            for (int64_t k = 0; k < count; ++k)
                out[k] = (names[k] == label) & (from[k] > 0) ? from[k] : out[k];
        }
    }
};

// The sum over members of one image: `bytes` of each, to `out`, (class, pixel). What is spread evenly
// is added to all classes at once, what is more than that to few of them.
inline void add_up(const uint8_t* const* bytes, const int64_t* ks, int64_t members,
                   int64_t classes, int64_t pixels, bool add, float* out) {
    static thread_local std::vector<Tile> tiles;
    static thread_local std::vector<float> rests(kTile);
    if (int64_t(tiles.size()) < members) tiles.resize(size_t(members));
    const bool alone = members == 1 && !add;  // then what is read is what was stored, to the bit
    for (int64_t start = 0; start < pixels; start += kTile) {
        const int64_t count = std::min(kTile, pixels - start);
        std::fill(rests.begin(), rests.end(), 0.0f);
        for (int64_t m = 0; m < members; ++m) {
            Tile& tile = tiles[size_t(m)];
            tile.take(bytes[m], {1, ks[m], classes, pixels}, start, count);
            for (int64_t k = 0; k < count; ++k) rests[size_t(k)] += tile.rest[size_t(k)];
        }
        for (int64_t label = 0; label < classes; ++label) {
            float* to = out + label * pixels + start;
            if (add)
                for (int64_t k = 0; k < count; ++k) to[k] += rests[size_t(k)];
            else
                std::copy(rests.begin(), rests.begin() + count, to);
        }
        for (int64_t m = 0; m < members; ++m) {
            const float* rest = tiles[size_t(m)].rest.data();
            for (int64_t j = 0; j < ks[m]; ++j) {
                const uint8_t* names = bytes[m] + (ks[m] + j) * pixels + start;
                const float* value = tiles[size_t(m)].value.data() + j * count;
                for (int64_t k = 0; k < count; ++k) {
                    if (value[k] <= 0 || names[k] >= classes) continue;
                    float& to = out[names[k] * pixels + start + k];
                    to = alone ? value[k] : to + (value[k] - rest[k]);
                }
            }
        }
    }
}

// Rounds the k largest of a pixel to steps that sum to 255 at most. The largest is no smaller than
// what is left for each other class, so that it stays the largest.
inline void round_steps(const float* largest, int64_t k, int64_t classes, uint8_t* steps) {
    int sum = 0, kept = 0;
    for (int64_t j = 0; j < k; ++j) {
        const float scaled = std::min(std::max(largest[j], 0.0f), 1.0f) * kSteps;
        steps[j] = uint8_t(std::nearbyint(scaled));
        sum += steps[j];
    }
    for (int64_t j = k - 1; sum > kSteps; j = j ? j - 1 : k - 1)
        if (steps[j]) --steps[j], --sum;
    for (int64_t j = 0; j < k; ++j) kept += steps[j] > 0;
    while (sum < kSteps && steps[0] * (classes - kept) < kSteps - sum) ++steps[0], ++sum;
}

// The bytes of images from their maps, (image, class, pixel), and the error of all probabilities.
inline void choose(const float* maps, const Maps& shape, uint8_t* out, Error* error) {
    const int64_t k = shape.k, pixels = shape.pixels;
    std::vector<float> best(size_t(k * kTile)), sums(kTile), worst(kTile), decoded(kTile);
    Tile tile;
    for (int64_t image = 0; image < shape.images; ++image) {
        for (int64_t start = 0; start < pixels; start += kTile) {
            const int64_t count = std::min(kTile, pixels - start);
            std::fill(best.begin(), best.end(), -1.0f);
            uint8_t* names = out + k * pixels + start;
            float* last = best.data() + (k - 1) * kTile;
            for (int64_t label = 0; label < shape.classes; ++label) {
                const float* from = maps + label * pixels + start;
                for (int64_t p = 0; p < count; ++p) {
                    if (from[p] <= last[p]) continue;
                    int64_t j = k - 1;
                    for (; j && best[size_t((j - 1) * kTile + p)] < from[p]; --j) {
                        best[size_t(j * kTile + p)] = best[size_t((j - 1) * kTile + p)];
                        names[j * pixels + p] = names[(j - 1) * pixels + p];
                    }
                    best[size_t(j * kTile + p)] = from[p];
                    names[j * pixels + p] = uint8_t(label);
                }
            }
            for (int64_t p = 0; p < count; ++p) {
                float largest[256];
                uint8_t steps[256];
                for (int64_t j = 0; j < k; ++j) largest[j] = best[size_t(j * kTile + p)];
                round_steps(largest, k, shape.classes, steps);
                for (int64_t j = 0; j < k; ++j) out[j * pixels + start + p] = steps[j];
            }
            tile.take(out, {1, k, shape.classes, pixels}, start, count);
            std::fill(sums.begin(), sums.end(), 0.0f);
            std::fill(worst.begin(), worst.end(), 0.0f);
            for (int64_t label = 0; label < shape.classes; ++label) {
                const float* from = maps + label * pixels + start;
                tile.of_class(out, {1, k, shape.classes, pixels}, start, count, label,
                              decoded.data());
                for (int64_t p = 0; p < count; ++p) {
                    const float off = std::fabs(from[p] - decoded[size_t(p)]);
                    sums[size_t(p)] += off;
                    worst[size_t(p)] = std::max(worst[size_t(p)], off);
                }
            }
            for (int64_t p = 0; p < count; ++p) {
                error->sum += sums[size_t(p)];
                error->largest = std::max(error->largest, double(worst[size_t(p)]));
            }
        }
        maps += shape.classes * pixels;
        out += 2 * k * pixels;
    }
}

}  // namespace top_classes
