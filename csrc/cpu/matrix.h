// A weight matrix as the kernels see it.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"

namespace mixtralkit {

enum class Kind { float32, bfloat16, float16, int8, int4 };

constexpr std::int64_t kBlock = 16;           // outputs that lie together in a quantized matrix
constexpr std::int64_t kGroup = 64;           // inputs of a row that share a scale in a quantized matrix
constexpr std::int64_t kOutputsPerTask = 64;  // a multiple of kBlock and of kGroup

// Float kinds are [outputs, inputs], row after row. mixtralkit/ops/quantized_weight.py has the layout of the others;
// only int4 has `mins`.
struct Matrix {
    Kind kind;
    const void* data;
    const Fp16* scales;
    const Fp16* mins;
    std::int64_t outputs, inputs;
};

}  // namespace mixtralkit
