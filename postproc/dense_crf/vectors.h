// Vectors of values, and memory for one picture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;
#elif defined(__AVX2__)
constexpr int WIDE = 8;
#else
constexpr int WIDE = 4;
#endif
constexpr int LANES = 8;

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t LanesInt __attribute__((vector_size(4 * LANES)));
typedef float Wide __attribute__((vector_size(4 * WIDE)));
typedef float WideAnywhere __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
typedef int32_t WideInt __attribute__((vector_size(4 * WIDE)));
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInt __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE(type, whole, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, whole, a, b, ...) __builtin_shuffle(a, b, (whole){__VA_ARGS__})
#endif

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

}  // namespace
