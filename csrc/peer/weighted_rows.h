// Sums of weighted rows, one rounding an operation (no fused multiply-add), as moe's weighted_sum has them.
#pragma once

#include <cstdint>

namespace mixtralkit::peer {

// to = weight * row
inline void weigh(float* __restrict to, const float* __restrict row, float weight, int64_t width) {
    for (int64_t i = 0; i < width; ++i) to[i] = weight * row[i];
}

// to = weight * row + other_weight * other
inline void weigh_two(float* __restrict to, const float* __restrict row, float weight, const float* __restrict other,
                      float other_weight, int64_t width) {
    for (int64_t i = 0; i < width; ++i) {
        const float first = weight * row[i], second = other_weight * other[i];
        to[i] = first + second;
    }
}

// to += row
inline void add(float* __restrict to, const float* __restrict row, int64_t width) {
    for (int64_t i = 0; i < width; ++i) to[i] += row[i];
}

}  // namespace mixtralkit::peer
