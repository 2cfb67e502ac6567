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

// The tetrahedra around `WIDE` colours, and the barycentric weights of the colours in them.
struct Simplices {
    WideInt corner[CORNERS][3];
    Wide weight[CORNERS];
};

inline Simplices simplices(Wide red, Wide green, Wide blue, float scale) {
    const Wide a = red * (scale * 0.707106781f), b = green * (scale * 0.408248290f);
    const Wide c = blue * (scale * 0.288675135f);
    const Wide at[4] = {c + b + a, c + b - a, c - 2.0f * b, -3.0f * c};
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    Wide rest[4];
    WideInt base[4], rank[4] = {}, total = {};
    for (int i = 0; i < 4; ++i) {
        const Wide whole = (at[i] * 0.25f + magic) - magic;
        base[i] = __builtin_convertvector(whole, WideInt);
        total += base[i];
        base[i] *= 4;
        rest[i] = at[i] - whole * 4.0f;
    }
    for (int i = 0; i < 4; ++i)
        for (int j = i + 1; j < 4; ++j) {
            const WideInt less = rest[i] < rest[j];  // -1 where true
            rank[i] -= less;
            rank[j] += less + 1;
        }
    Simplices found = {};
    Wide shares[5] = {};
    for (int i = 0; i < 4; ++i) {
        rank[i] += total;
        const WideInt turn = ((rank[i] > 3) & -4) + ((rank[i] < 0) & 4);
        rank[i] += turn;
        base[i] += turn;
        const Wide share = (rest[i] - __builtin_convertvector(turn, Wide)) * 0.25f;
        for (int k = 0; k < 4; ++k) {
            const Wide here = (Wide)((WideInt)(rank[i] == k) & (WideInt)share);
            shares[3 - k] += here;
            shares[4 - k] -= here;
        }
    }
    shares[0] += 1.0f + shares[4];
    for (int k = 0; k < CORNERS; ++k) {
        found.weight[k] = shares[k];
        for (int i = 0; i < 3; ++i) found.corner[k][i] = base[i] + k + ((rank[i] > 3 - k) & -4);
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
    static int64_t key(int32_t a, int32_t b, int32_t c) {
        return ((int64_t)a * (1 << 15) + b) * (1 << 15) + c;
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
