// Values of a chunk from its file to float32, with their crc32c, while they are in the cache.

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bit_planes.h"
#include "top_classes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kLane = 4096;       // bytes: three lanes are summed at a time
constexpr int64_t kBatch = 1 << 16;   // bytes read at a time: they and their float32 stay in L2
constexpr uint32_t kPolynomial = 0x82F63B78;  // Castagnoli's, reflected

enum Kind : int32_t { kHalf = 0, kBytes = 1, kFloat = 2 };

// --- crc32c (RFC 3720, appendix B.4) ---------------------------------------------------------

struct Tables {
    uint32_t byte[256];
    uint32_t past[4][256];  // a checksum moved past kLane zero bytes, by the bytes of the checksum

    Tables() {
        for (uint32_t k = 0; k < 256; ++k) {
            uint32_t crc = k;
            for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
            byte[k] = crc;
        }
        for (int place = 0; place < 4; ++place)
            for (uint32_t k = 0; k < 256; ++k) {
                uint32_t crc = k << 8 * place;
                for (int64_t zero = 0; zero < kLane; ++zero) crc = crc >> 8 ^ byte[crc & 255];
                past[place][k] = crc;
            }
    }
};

const Tables& tables() {
    static const Tables built;
    return built;
}

uint32_t by_bytes(uint32_t crc, const uint8_t* at, int64_t count) {
    const Tables& known = tables();
    for (int64_t k = 0; k < count; ++k) crc = crc >> 8 ^ known.byte[(crc ^ at[k]) & 255];
    return crc;
}

#if defined(__x86_64__)
uint32_t past_lane(uint32_t crc) {
    const Tables& known = tables();
    return known.past[0][crc & 255] ^ known.past[1][crc >> 8 & 255] ^
           known.past[2][crc >> 16 & 255] ^ known.past[3][crc >> 24];
}

uint64_t word(const uint8_t* at) {
    uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// One instruction waits three cycles for the one before: three lanes keep the unit busy.
__attribute__((target("sse4.2"))) uint32_t by_words(uint32_t crc, const uint8_t* at,
                                                    int64_t count) {
    for (; count >= 3 * kLane; count -= 3 * kLane, at += 3 * kLane) {
        uint64_t first = crc, second = 0, third = 0;
        for (int64_t k = 0; k < kLane; k += 8) {
            first = _mm_crc32_u64(first, word(at + k));
            second = _mm_crc32_u64(second, word(at + kLane + k));
            third = _mm_crc32_u64(third, word(at + 2 * kLane + k));
        }
        crc = past_lane(past_lane(uint32_t(first)) ^ uint32_t(second)) ^ uint32_t(third);
    }
    for (; count >= 8; count -= 8, at += 8) crc = uint32_t(_mm_crc32_u64(crc, word(at)));
    return by_bytes(crc, at, count);
}
#endif

uint32_t summed(uint32_t crc, const uint8_t* at, int64_t count) {
#if defined(__x86_64__)
    static const bool able = (__builtin_cpu_init(), __builtin_cpu_supports("sse4.2"));
    if (able) return by_words(crc, at, count);
#endif
    return by_bytes(crc, at, count);
}

// --- to float32 ------------------------------------------------------------------------------

// Each takes a value to its place, or adds it to what lies there.
template <bool kAdd>
void put(float value, float* out) {
    *out = kAdd ? *out + value : value;
}

float from_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    uint32_t bits = uint32_t(half & 0x7fff) << 13;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;  // the exponents' biases differ by this; subnormal numbers come out right
    std::memcpy(&bits, &value, sizeof bits);
    if ((half & 0x7c00) == 0x7c00) bits |= 0x7f800000;  // infinite, or not a number
    bits |= sign;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <bool kAdd>
void halves_one_by_one(const uint8_t* at, int64_t count, float* out) {
    for (int64_t k = 0; k < count; ++k) {
        uint16_t half;
        std::memcpy(&half, at + 2 * k, sizeof half);
        put<kAdd>(from_half(half), out + k);
    }
}

#if defined(__x86_64__)
template <bool kAdd>
__attribute__((target("avx,f16c"))) void halves_by_eight(const uint8_t* at, int64_t count,
                                                         float* out) {
    int64_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 2 * k));
        const __m256 value = _mm256_cvtph_ps(eight);
        _mm256_storeu_ps(out + k, kAdd ? _mm256_add_ps(_mm256_loadu_ps(out + k), value) : value);
    }
    halves_one_by_one<kAdd>(at + 2 * k, count - k, out + k);
}
#endif

template <bool kAdd>
void from_halves(const uint8_t* at, int64_t count, float* out) {
#if defined(__x86_64__)
    static const bool able = (__builtin_cpu_init(), __builtin_cpu_supports("avx") &&
                                                        __builtin_cpu_supports("f16c"));
    if (able) return halves_by_eight<kAdd>(at, count, out);
#endif
    halves_one_by_one<kAdd>(at, count, out);
}

template <bool kAdd>
__attribute__((always_inline)) inline void bytes_one_by_one(const uint8_t* at, int64_t count,
                                                            float* out) {
    constexpr float kStep = float(1.0 / 255);
    for (int64_t k = 0; k < count; ++k) put<kAdd>(float(at[k]) * kStep, out + k);
}

#if defined(__x86_64__)
bool has_avx2() {
    static const bool able = (__builtin_cpu_init(), __builtin_cpu_supports("avx2"));
    return able;
}

// The same, compiled for wider vectors.
template <bool kAdd>
__attribute__((target("avx2"))) void bytes_avx2(const uint8_t* at, int64_t count, float* out) {
    bytes_one_by_one<kAdd>(at, count, out);
}
#endif

template <bool kAdd>
void from_bytes(const uint8_t* at, int64_t count, float* out) {
#if defined(__x86_64__)
    if (has_avx2()) return bytes_avx2<kAdd>(at, count, out);
#endif
    bytes_one_by_one<kAdd>(at, count, out);
}

template <bool kAdd>
void from_floats(const uint8_t* at, int64_t count, float* out) {
    for (int64_t k = 0; k < count; ++k) {
        float value;
        std::memcpy(&value, at + 4 * k, sizeof value);
        put<kAdd>(value, out + k);
    }
}

template <bool kAdd>
void converted(Kind kind, const uint8_t* at, int64_t count, float* out) {
    if (kind == kHalf) from_halves<kAdd>(at, count, out);
    else if (kind == kBytes) from_bytes<kAdd>(at, count, out);
    else from_floats<kAdd>(at, count, out);
}

// --- packed planes ---------------------------------------------------------------------------

#if defined(__x86_64__)
__attribute__((target("avx2"))) void unpacked_avx2(const uint8_t* at, int64_t rows, int64_t cols,
                                                   uint8_t* out) {
    bit_planes::gather_avx2(at, rows * cols, out);
    bit_planes::add_above(out, rows, cols);
}
#endif

// Unpacks one plane to bytes; there is room for its groups.
void unpacked(const uint8_t* at, int64_t rows, int64_t cols, uint8_t* out) {
#if defined(__x86_64__)
    if (has_avx2()) return unpacked_avx2(at, rows, cols, out);
#endif
    bit_planes::gather(at, rows * cols, out);
    bit_planes::add_above(out, rows, cols);
}

// Maps that the functions at the end pack or unpack: `planes` of `rows` x `cols`. Where `paired`, two make
// an image, and the second is nearly what the first lacks to 255: what it has more is packed instead.
struct Planes {
    int64_t planes, rows, cols, paired;
};

// Calls `function(bytes, number)` for each of the maps, if `wanted`; see `planes_unpack`.
template <typename Function>
int64_t each_plane(const uint8_t* packed, int64_t size, const Planes& maps, const void* wanted,
                   Function function) {
    static thread_local std::vector<uint8_t> bytes, first;
    const int64_t count = maps.rows * maps.cols;
    bytes.resize(size_t(bit_planes::room(count)));
    int64_t position = 0;
    for (int64_t plane = 0; plane < maps.planes; ++plane) {
        const uint8_t* at = packed + position;
        const int64_t taken = bit_planes::packed_bytes(at, size - position, count);
        if (taken < 0) return -1;
        position += taken;
        if (!wanted) continue;
        unpacked(at, maps.rows, maps.cols, bytes.data());
        if (maps.paired && plane % 2)
            for (int64_t k = 0; k < count; ++k)
                bytes[size_t(k)] = uint8_t(bytes[size_t(k)] - first[size_t(k)] - 1);
        function(bytes.data(), plane);
        if (maps.paired) first.swap(bytes), bytes.resize(first.size());
    }
    return position;
}

bool filled(int file, uint8_t* at, int64_t count) {
    while (count) {
        const ssize_t got = read(file, at, size_t(count));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        count -= got;
    }
    return true;
}

}  // namespace

// Reads `count` values from a file to `out`, adds them to what lies there, or reads past them where
// `out` is null; the checksum goes on over them. Returns 0, or 1 where the file ends before.
extern "C" __attribute__((visibility("default"))) int chunk_read(int file, int64_t count,
                                                                 int32_t kind, int32_t add,
                                                                 float* out, uint32_t* checksum) {
    const int64_t width = kind == kHalf ? 2 : kind == kBytes ? 1 : 4;
    static thread_local std::vector<uint8_t> batch(kBatch);
    uint32_t crc = ~*checksum;
    while (count) {
        const int64_t now = count < kBatch / width ? count : kBatch / width;
        if (!filled(file, batch.data(), now * width)) return 1;
        crc = summed(crc, batch.data(), now * width);
        if (out) {
            add ? converted<true>(Kind(kind), batch.data(), now, out)
                : converted<false>(Kind(kind), batch.data(), now, out);
            out += now;
        }
        count -= now;
    }
    *checksum = ~crc;
    return 0;
}

// Continues a checksum over bytes in memory.
extern "C" __attribute__((visibility("default"))) uint32_t chunk_checksum(uint32_t checksum,
                                                                          const uint8_t* at,
                                                                          int64_t count) {
    return ~summed(~checksum, at, count);
}

// Packs maps of bytes; `out` has room for `planes_limit` bytes. Returns the bytes written.
extern "C" __attribute__((visibility("default"))) int64_t planes_pack(const uint8_t* values,
                                                                      const Planes* maps,
                                                                      uint8_t* out) {
    static thread_local std::vector<uint8_t> more;
    const int64_t count = maps->rows * maps->cols;
    more.resize(size_t(count));
    uint8_t* at = out;
    for (int64_t plane = 0; plane < maps->planes; ++plane, values += count) {
        const bool second = maps->paired && plane % 2;
        for (int64_t k = 0; second && k < count; ++k)
            more[size_t(k)] = uint8_t(values[k] + values[k - count] + 1);
        at += bit_planes::pack(second ? more.data() : values, maps->rows, maps->cols, at);
    }
    return at - out;
}

extern "C" __attribute__((visibility("default"))) int64_t planes_limit(const Planes* maps) {
    return maps->planes * bit_planes::limit(maps->rows * maps->cols);
}

// Unpacks maps from the front of `size` bytes, to float32 at `out`, adds them to what lies there, or
// passes over them where `out` is null. Returns the bytes passed, or -1 where they do not suffice.
extern "C" __attribute__((visibility("default"))) int64_t planes_unpack(const uint8_t* packed,
                                                                        int64_t size,
                                                                        const Planes* maps,
                                                                        int32_t add, float* out) {
    const int64_t count = maps->rows * maps->cols;
    return each_plane(packed, size, *maps, out, [&](const uint8_t* bytes, int64_t plane) {
        add ? from_bytes<true>(bytes, count, out + plane * count)
            : from_bytes<false>(bytes, count, out + plane * count);
    });
}

// As `planes_unpack`, to the bytes that were packed.
extern "C" __attribute__((visibility("default"))) int64_t planes_unpack_bytes(
    const uint8_t* packed, int64_t size, const Planes* maps, uint8_t* out) {
    const int64_t count = maps->rows * maps->cols;
    return each_plane(packed, size, *maps, out, [&](const uint8_t* bytes, int64_t plane) {
        std::memcpy(out + plane * count, bytes, size_t(count));
    });
}

// Chooses the largest classes of maps (image, class, pixel); see top_classes.h. Adds to `error`.
extern "C" __attribute__((visibility("default"))) void top_choose(const float* maps,
                                                                  const top_classes::Maps* shape,
                                                                  uint8_t* out,
                                                                  top_classes::Error* error) {
    top_classes::choose(maps, *shape, out, error);
}

// Puts the sum over `members` of one image of bytes each to `out`, (class, pixel); of one member it
// may be added instead.
extern "C" __attribute__((visibility("default"))) void top_add_up(const uint8_t* const* bytes,
                                                                  const int64_t* ks,
                                                                  int64_t members, int64_t classes,
                                                                  int64_t pixels, int32_t add,
                                                                  float* out) {
    top_classes::add_up(bytes, ks, members, classes, pixels, add, out);
}
