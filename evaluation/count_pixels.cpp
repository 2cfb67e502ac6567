// Pixels by target and predicted class, one table per image, near the speed of reading the labels.

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int kUnlabelled = 255;
constexpr int kFew = 8;       // classes up to here are counted by masks of 64 pixels
constexpr int64_t kWord = 64;  // pixels

// Counts one pixel after the other; tells whether all labels are known.
bool one_by_one(const uint8_t* target, const uint8_t* pred, int64_t pixels, int classes,
                int64_t* table) {
    bool known = true;
    for (int64_t k = 0; k < pixels; ++k) {
        const int row = target[k], column = pred[k];
        if (column >= classes || (row >= classes && row != kUnlabelled)) known = false;
        else if (row != kUnlabelled) ++table[row * classes + column];
    }
    return known;
}

#if defined(__x86_64__)
// Where 64 labels are this one, a bit each.
__attribute__((target("avx512f,avx512bw"))) inline uint64_t equal512(__m512i labels, int label) {
    return _mm512_cmpeq_epi8_mask(labels, _mm512_set1_epi8(char(label)));
}

__attribute__((target("avx2"))) inline uint64_t equal256(__m256i first, __m256i second, int label) {
    const __m256i wanted = _mm256_set1_epi8(char(label));
    const uint32_t low = uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(first, wanted)));
    const uint32_t high = uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(second, wanted)));
    return low | uint64_t(high) << 32;
}

template <int kClasses>
struct Masks {
    uint64_t target[kClasses], pred[kClasses], unlabelled;

    __attribute__((target("avx512f,avx512bw"))) inline void read512(const uint8_t* t,
                                                                    const uint8_t* g) {
        const __m512i true_labels = _mm512_loadu_si512(t), predicted = _mm512_loadu_si512(g);
        for (int k = 0; k < kClasses; ++k) target[k] = equal512(true_labels, k);
        for (int k = 0; k < kClasses; ++k) pred[k] = equal512(predicted, k);
        unlabelled = equal512(true_labels, kUnlabelled);
    }

    __attribute__((target("avx2"))) inline void read256(const uint8_t* t, const uint8_t* g) {
        const auto at = [](const uint8_t* p) { return reinterpret_cast<const __m256i*>(p); };
        const __m256i t0 = _mm256_loadu_si256(at(t)), t1 = _mm256_loadu_si256(at(t + 32));
        const __m256i g0 = _mm256_loadu_si256(at(g)), g1 = _mm256_loadu_si256(at(g + 32));
        for (int k = 0; k < kClasses; ++k) target[k] = equal256(t0, t1, k);
        for (int k = 0; k < kClasses; ++k) pred[k] = equal256(g0, g1, k);
        unlabelled = equal256(t0, t1, kUnlabelled);
    }

    // Adds to the table; gives the pixels whose labels are known, a bit each.
    __attribute__((target("popcnt"))) inline uint64_t add(int64_t* table) const {
        uint64_t any_target = unlabelled, any_pred = 0;
        for (int row = 0; row < kClasses; ++row) {
            any_target |= target[row];
            any_pred |= pred[row];
            for (int column = 0; column < kClasses; ++column)
                table[row * kClasses + column] += _mm_popcnt_u64(target[row] & pred[column]);
        }
        return any_target & any_pred;
    }
};

template <int kClasses>
__attribute__((target("avx512f,avx512bw,popcnt"))) bool by_words512(const uint8_t* target,
                                                                    const uint8_t* pred,
                                                                    int64_t words,
                                                                    int64_t* table) {
    uint64_t known = ~uint64_t{0};
    Masks<kClasses> masks;
    for (int64_t k = 0; k < words; ++k) {
        masks.read512(target + k * kWord, pred + k * kWord);
        known &= masks.add(table);
    }
    return ~known == 0;
}

template <int kClasses>
__attribute__((target("avx2,popcnt"))) bool by_words256(const uint8_t* target, const uint8_t* pred,
                                                        int64_t words, int64_t* table) {
    uint64_t known = ~uint64_t{0};
    Masks<kClasses> masks;
    for (int64_t k = 0; k < words; ++k) {
        masks.read256(target + k * kWord, pred + k * kWord);
        known &= masks.add(table);
    }
    return ~known == 0;
}

using ByWords = bool (*)(const uint8_t*, const uint8_t*, int64_t, int64_t*);

// By the number of classes, from 2 on.
constexpr ByWords kWords512[] = {by_words512<2>, by_words512<3>, by_words512<4>, by_words512<5>,
                                 by_words512<6>, by_words512<7>, by_words512<8>};
constexpr ByWords kWords256[] = {by_words256<2>, by_words256<3>, by_words256<4>, by_words256<5>,
                                 by_words256<6>, by_words256<7>, by_words256<8>};

ByWords chosen(int classes) {
    __builtin_cpu_init();
    if (classes < 2 || classes > kFew || !__builtin_cpu_supports("popcnt")) return nullptr;
    if (__builtin_cpu_supports("avx512bw")) return kWords512[classes - 2];
    return __builtin_cpu_supports("avx2") ? kWords256[classes - 2] : nullptr;
}
#endif

}  // namespace

// Adds pixels to tables of zeros (image, target, prediction). Returns 0, or 1 if a label is neither
// below `classes` nor, in the target, 255; the tables are invalid then.
extern "C" __attribute__((visibility("default"))) int count_pixels(
    const uint8_t* target, const uint8_t* pred, int64_t images, int64_t pixels, int32_t classes,
    int64_t* tables) {
    bool known = true;
    int64_t words = 0;
#if defined(__x86_64__)
    const ByWords by_words = chosen(classes);
    if (by_words) words = pixels / kWord;
#endif
    for (int64_t image = 0; image < images; ++image) {
        const uint8_t *t = target + image * pixels, *g = pred + image * pixels;
        int64_t* table = tables + image * classes * classes;
#if defined(__x86_64__)
        if (words) known &= by_words(t, g, words, table);
#endif
        const int64_t done = words * kWord;
        known &= one_by_one(t + done, g + done, pixels - done, classes, table);
    }
    return known ? 0 : 1;
}
