// Vertices of the permutohedral lattice in three dimensions, found by their coordinates.
//
// Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// Eurographics 2010.
#pragma once

#include "vectors.h"

#include <cmath>
#include <cstring>

namespace {

constexpr int CORNERS = 4;     // of a simplex
constexpr int KEY_BITS = 46;  // of a vertex's key

struct Simplex {
    int32_t corner[CORNERS][3];
    float weight[CORNERS];
};

// The simplex around a colour, and the colour's barycentric weights in it.
inline Simplex simplex(const uint8_t* colour, size_t stride, float scale) {
    const float a = colour[0] * (scale * 0.707106781f), b = colour[stride] * (scale * 0.408248290f);
    const float c = colour[2 * stride] * (scale * 0.288675135f);
    const float at[4] = {c + b + a, c + b - a, c - 2 * b, -3 * c};
    int base[4], rank[4] = {}, total = 0;
    float rest[4];
    for (int i = 0; i < 4; ++i) {
        const int whole = (int)floorf(at[i] / 4 + 0.5f);
        base[i] = 4 * whole;
        rest[i] = at[i] - base[i];
        total += whole;
    }
    for (int i = 0; i < 4; ++i)
        for (int j = i + 1; j < 4; ++j) {
            const int less = rest[i] < rest[j];
            rank[i] += less;
            rank[j] += 1 - less;
        }
    float shares[5] = {};
    for (int i = 0; i < 4; ++i) {
        rank[i] += total;
        const int turn = rank[i] < 0 ? 4 : rank[i] > 3 ? -4 : 0;
        rank[i] += turn;
        base[i] += turn;
        const float share = (at[i] - base[i]) / 4;
        shares[3 - rank[i]] += share;
        shares[4 - rank[i]] -= share;
    }
    shares[0] += 1 + shares[4];
    Simplex found;
    for (int k = 0; k < CORNERS; ++k) {
        found.weight[k] = shares[k];
        for (int i = 0; i < 3; ++i) found.corner[k][i] = base[i] + (rank[i] <= 3 - k ? k : k - 4);
    }
    return found;
}

// Numbers vertices from 0 in the order in which they are met: a hash table with linear probing.
struct Vertices {
    struct Slot {
        int64_t key;
        int32_t number;  // plus 1; 0: empty
    };
    Buffer<Slot> slots;
    Buffer<int64_t> keys;
    int32_t count, bits;

    bool clear() {
        count = bits = 0;
        return true;
    }

    int64_t room() const { return bits ? (int64_t)1 << (bits - 1) : 0; }

    // Make room for `more`, and as many again; false where memory ran out.
    bool grow(int64_t more) {
        int64_t* const old = keys.data;
        Buffer<int64_t> kept;
        if (count && !kept.reserve(count)) return false;
        if (count) memcpy(kept.data, old, count * sizeof(int64_t));
        for (bits = 4; room() < 2 * (count + more); ++bits) {}
        if (!slots.reserve((size_t)1 << bits) || !keys.reserve(room())) return false;
        memset((void*)slots.data, 0, sizeof(Slot) << bits);
        const int known = count;
        count = 0;
        for (int i = 0; i < known; ++i) add(kept[i]);
        return true;
    }

    // Keys of neighbours differ by the same number everywhere, so a step is a key too.
    static int64_t key(const int32_t* vertex) {
        return ((int64_t)vertex[0] * (1 << 15) + vertex[1]) * (1 << 15) + vertex[2];
    }

    Slot& slot(int64_t key) const {
        uint64_t place = (uint64_t)key * 0x9e3779b97f4a7c15u >> (64 - bits);
        while (slots[place].number && slots[place].key != key) place = (place + 1) & ((1u << bits) - 1);
        return slots[place];
    }

    int32_t add(int64_t key) {
        Slot& found = slot(key);
        if (!found.number) {
            keys[count] = key;
            found = {key, ++count};
        }
        return found.number - 1;
    }

    int32_t find(int64_t key) const { return slot(key).number - 1; }
};

}  // namespace
