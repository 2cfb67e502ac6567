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

// Unpacks a plane whose size `packed_bytes` gave; `out` has `room`.
inline void unpack(const uint8_t* at, int64_t rows, int64_t cols, uint8_t* out) {
    static const Spread spread;
    const int64_t count = rows * cols;
    const uint8_t* planes = at + width_bytes(count);
    uint8_t* left = out;
    for (int64_t group = 0; group < groups(count); ++group, left += kGroup) {
        uint64_t lanes[kLanes] = {0, 0, 0, 0};
        const int width = width_of(at, group);
        for (int bit = 0; bit < width; ++bit, planes += kLanes)
            for (int64_t lane = 0; lane < kLanes; ++lane)
                lanes[lane] |= spread.word[planes[lane]] << bit;
        std::memcpy(left, lanes, kGroup);
    }
    for (int64_t k = 0; k < cols; ++k) out[k] = unfolded(out[k]);
    for (int64_t row = 1; row < rows; ++row) {
        uint8_t* here = out + row * cols;
        const uint8_t* above = here - cols;
        for (int64_t k = 0; k < cols; ++k) here[k] = uint8_t(unfolded(here[k]) + above[k]);
    }
}

// Calls `function(packed, number)` for each plane at the front of `size` bytes; returns the bytes
// passed, or -1 where they do not suffice.
template <typename Function>
int64_t each(const uint8_t* packed, int64_t size, int64_t planes, int64_t count,
             Function function) {
    int64_t position = 0;
    for (int64_t plane = 0; plane < planes; ++plane) {
        const int64_t taken = packed_bytes(packed + position, size - position, count);
        if (taken < 0) return -1;
        function(packed + position, plane);
        position += taken;
    }
    return position;
}

}  // namespace bit_planes
