// The angles by which queries and keys are turned (RoPE, arXiv:2104.09864).
#pragma once

#include <cstdint>

namespace mixtralkit {

// Cosine and sine of position * theta ** (-2i / head_dim), the angles in float32: [tokens, head_dim / 2] of each.
void rotation_angles(const std::int64_t* positions, std::int64_t tokens, std::int64_t head_dim, double theta,
                     float* cosines, float* sines);

}  // namespace mixtralkit
