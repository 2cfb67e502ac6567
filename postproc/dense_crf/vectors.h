// Vectors of values, and memory for one picture.
#pragma once

#include <cstddef>
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

// The labels of a pixel or cell lie together, padded to a number of these.
typedef float Lanes4 __attribute__((vector_size(16)));
typedef float Lanes8 __attribute__((vector_size(32)));
typedef float Lanes16 __attribute__((vector_size(64)));
template <typename V> constexpr int LANES = sizeof(V) / sizeof(float);

typedef float Wide __attribute__((vector_size(4 * WIDE)));
typedef float WideAnywhere __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
typedef int32_t WideInt __attribute__((vector_size(4 * WIDE)));

inline int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

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

// Memory whose size depends on the picture; it grows, and stays for the next one.
template <typename T> struct Buffer {
    T* data = nullptr;
    size_t room = 0;

    ~Buffer() { free(data); }

    // Its contents are lost where it grows; false where memory ran out.
    bool reserve(size_t count) {
        if (count <= room) return true;
        free(data);
        room = count + count / 4;
        data = (T*)aligned_alloc(64, (room * sizeof(T) + 63) / 64 * 64);
        if (!data) room = 0;
        return data;
    }

    T& operator[](size_t index) const { return data[index]; }
};

}  // namespace
