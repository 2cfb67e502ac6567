// Maps of bytes, packed without loss: each row is predicted by the row above it, and what is left is
// stored by bit planes, as many as the largest of 32 neighbours needs.
//
// A plane (the map of one class of one image) is packed alone: a width of 0 to 8 bits for each group
// of 32 values, two to a byte; then, for each group, one 32-bit word per bit, the lowest first.
// Differences are taken modulo 256 and their sign is put into the lowest bit, so that small ones of
// either sign have high bits of zero.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bit_planes {

constexpr int64_t kGroup = 32;     // values that share a width
constexpr int64_t kLanes = 4;      // of eight values: a group is four 64-bit words
constexpr uint64_t kOnes = 0x0101010101010101;

inline int64_t groups(int64_t values) { return (values + kGroup - 1) / kGroup; }
inline int64_t width_bytes(int64_t values) { return (groups(values) + 1) / 2; }

// The bytes that a plane takes before it is packed, in whole groups.
inline int64_t room(int64_t values) { return groups(values) * kGroup; }

// The most that a plane takes.
inline int64_t limit(int64_t values) { return width_bytes(values) + room(values); }

inline int width_of(const uint8_t* widths, int64_t group) {
    return widths[group / 2] >> 4 * (group & 1) & 15;
}

// Bit k of a byte, in the lowest bit of byte k of a word.
struct Spread {
    uint64_t word[256];
    Spread() {
        for (int byte = 0; byte < 256; ++byte) {
            word[byte] = 0;
            for (int bit = 0; bit < 8; ++bit) word[byte] |= uint64_t(byte >> bit & 1) << 8 * bit;
        }
    }
};

inline uint8_t folded(uint8_t difference) {
    return uint8_t(difference << 1 ^ (difference & 0x80 ? 0xff : 0));
}

inline uint8_t unfolded(uint8_t value) { return uint8_t(value >> 1 ^ (0 - (value & 1))); }

// Packs one plane of `rows` x `cols`; returns the bytes written, at most `limit`.
inline int64_t pack(const uint8_t* values, int64_t rows, int64_t cols, uint8_t* out) {
    static thread_local std::vector<uint8_t> scratch;
    const int64_t count = rows * cols;
    scratch.assign(size_t(room(count)), 0);
    uint8_t* left = scratch.data();
    for (int64_t k = 0; k < cols; ++k) left[k] = folded(values[k]);
    for (int64_t k = cols; k < count; ++k) left[k] = folded(uint8_t(values[k] - values[k - cols]));
    uint8_t* at = out + width_bytes(count);
    std::memset(out, 0, size_t(width_bytes(count)));
    for (int64_t group = 0; group < groups(count); ++group, left += kGroup) {
        uint64_t lanes[kLanes];
        std::memcpy(lanes, left, kGroup);
        uint64_t any = lanes[0] | lanes[1] | lanes[2] | lanes[3];
        any |= any >> 32;
        any |= any >> 16;
        any |= any >> 8;
        int width = 0;
        for (uint64_t bits = any & 255; bits; bits >>= 1) ++width;
        out[group / 2] |= uint8_t(width << 4 * (group & 1));
        for (int bit = 0; bit < width; ++bit)
            for (int64_t lane = 0; lane < kLanes; ++lane)
                *at++ = uint8_t((lanes[lane] >> bit & kOnes) * 0x0102040810204080 >> 56);
    }
    return at - out;
}

// The bytes that a plane takes, or -1 where they would end past `size`.
inline int64_t packed_bytes(const uint8_t* at, int64_t size, int64_t count) {
    int64_t total = width_bytes(count);
    if (total > size) return -1;
    for (int64_t group = 0; group < groups(count); ++group) {
        const int width = width_of(at, group);
        if (width > 8) return -1;
        total += kGroup / 8 * width;
    }
    return total > size ? -1 : total;
}

// Puts the bit planes of a plane's groups together.
inline void gather(const uint8_t* at, int64_t count, uint8_t* out) {
    static const Spread spread;
    const uint8_t* planes = at + width_bytes(count);
    for (int64_t group = 0; group < groups(count); ++group, out += kGroup) {
        uint64_t lanes[kLanes] = {0, 0, 0, 0};
        const int width = width_of(at, group);
        for (int bit = 0; bit < width; ++bit, planes += kLanes)
            for (int64_t lane = 0; lane < kLanes; ++lane)
                lanes[lane] |= spread.word[planes[lane]] << bit;
        std::memcpy(out, lanes, kGroup);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) inline void gather_avx2(const uint8_t* at, int64_t count,
                                                        uint8_t* out) {
    const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                             2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit_of = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    const uint8_t* planes = at + width_bytes(count);
    for (int64_t group = 0; group < groups(count); ++group, out += kGroup) {
        __m256i values = _mm256_setzero_si256(), place = _mm256_set1_epi8(1);
        const int width = width_of(at, group);
        for (int bit = 0; bit < width; ++bit, planes += kLanes) {
            int32_t word;
            std::memcpy(&word, planes, sizeof word);
            const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte_of);
            const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of), bit_of);
            values = _mm256_or_si256(values, _mm256_and_si256(set, place));
            place = _mm256_add_epi8(place, place);
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), values);
    }
}
#endif

// Turns what was left of the row above into rows. Inlined, so that it is compiled for the instruction
// set of its caller.
__attribute__((always_inline)) inline void add_above(uint8_t* out, int64_t rows, int64_t cols) {
    for (int64_t k = 0; k < cols; ++k) out[k] = unfolded(out[k]);
    for (int64_t row = 1; row < rows; ++row) {
        uint8_t* here = out + row * cols;
        const uint8_t* above = here - cols;
        for (int64_t k = 0; k < cols; ++k) here[k] = uint8_t(unfolded(here[k]) + above[k]);
    }
}

}  // namespace bit_planes
