// Mean-field inference on a grid, for blocks of pictures.
//
// Built several times, for machines with different vector units (VARIANT names the one at hand);
// dispatch.cpp chooses. Nothing here is visible outside but `infer_VARIANT`, and no template of the
// standard library is used, so that no code for a newer machine slips into an older one's path.
//
// A row of pixels is treated in one go, so that all it touches stays in the first-level cache:
// read the messages from the grids, softmax, add the new probabilities to the next grids. Channels
// lie together, padded to 8 lanes; the softmax alone works on planes, pixel beside pixel.

#include "kernel.h"

#include "field.h"

namespace {

template <typename V, int CHUNKS>
int infer(const Problem* problem, const float* maps, const uint8_t* pictures, float* out, uint8_t* left) {
    Field<V, CHUNKS> field(problem);
    Arena arena = {};
    field.take(arena);
    arena.size = arena.used;
    arena.start = (char*)aligned_alloc(64, arena.size);
    if (!arena.start) return 1;
    arena.used = 0;
    field.take(arena);
    field.lay_out();
    const size_t pixels = (size_t)problem->rows * problem->cols, values = pixels * problem->classes;
    const size_t seen = problem->colour ? 3 * pixels : problem->grey ? pixels : 0;
    bool done = true;
    for (int i = 0; i < problem->pictures && done; ++i)
        done = field.run(maps + i * values, pictures + i * seen, out + i * values, left + i);
    free(arena.start);
    return !done;
}

}  // namespace

#define JOIN(a, b) a##b
#define NAMED(variant) JOIN(infer_, variant)

int NAMED(VARIANT)(const Problem* problem, const float* maps, const uint8_t* pictures, float* out, uint8_t* left) {
    if (problem->classes <= 4) return infer<Lanes4, 1>(problem, maps, pictures, out, left);
    if (problem->classes <= 8) return infer<Lanes8, 1>(problem, maps, pictures, out, left);
    if (WIDE < 16) return infer<Lanes8, 0>(problem, maps, pictures, out, left);
    if (problem->classes <= 16) return infer<Lanes16, 1>(problem, maps, pictures, out, left);
    return infer<Lanes16, 0>(problem, maps, pictures, out, left);
}
