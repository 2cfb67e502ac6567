// Chooses the variant of the kernel that this machine can run.

#include "kernel.h"

#if defined(__x86_64__)
static Infer* best() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return infer_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return infer_avx2;
    return infer_plain;
}
#else
static Infer* best() { return infer_plain; }
#endif

extern "C" __attribute__((visibility("default"))) int dense_crf(
    const Problem* problem, const float* maps, const uint8_t* pictures, float* out, uint8_t* left) {
    static Infer* const chosen = best();
    return chosen(problem, maps, pictures, out, left);
}
