// What Python hands over; postproc/dense_crf/cpp_backend.py mirrors these structures.
#pragma once

#include <cstdint>

extern "C" {

// Cells along one axis: their width, and the blur's weights by distance from 0 to `reach`.
struct Axis {
    int32_t step, reach;
    const float* taps;
};

// The kernel on place: separable scales that normalise it; Potts' gain, or gains (class, other).
struct Place {
    Axis axis;
    const float *scale_y, *scale_x;
    float gain;
    const float* gains;
};

// The kernel on place and grey level.
struct Grey {
    Axis place, level;
    float gain;
    const float* gains;
};

// The kernel on place and colour: a lattice whose vertices receive from others `steps` away.
struct Colour {
    Axis place;
    int32_t fine;  // pixels along an edge of a block whose pixels count as at one place
    int32_t reach;  // how many steps
    const int32_t (*steps)[3];
    const float* taps;
    float scale;  // of the lattice, per level of colour
    int64_t most_cells;
    float gain;
    const float* gains;
};

struct Problem {
    int32_t pictures, classes, rows, cols, iterations;
    float floor;
    const Place* place;    // null: no such kernel
    const Grey* grey;      // null: no such kernel
    const Colour* colour;  // null: no such kernel
};

// Maps are float (picture, class, row, col); pictures are uint8 (picture, row, col) where grey, else
// (picture, 3, row, col). `left` gets 1 for a picture that needs too many cells, which is not done, else
// 0. Returns 1 where memory ran out, else 0.
typedef int Infer(const Problem*, const float* maps, const uint8_t* pictures, float* out, uint8_t* left);

Infer infer_avx512, infer_avx2, infer_plain;
}
