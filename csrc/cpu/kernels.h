// What every variant of the CPU kernels offers. They know pointers and sizes, and run in the calling thread.
#pragma once

#include <cstdint>

#include "cpu/matrix.h"

namespace mixtralkit {

constexpr std::int64_t kChunk = 64;  // positions that attention takes together

// The queries of `tokens` consecutive tokens from `position` on, `repeats` heads of each, that share one KV head. Its
// keys and values are in blocks `[block_size, head_dim]`: those of the positions from i * block_size on begin
// table[i] * block_stride numbers behind `keys` and `values`. block_size divides kChunk or is a multiple of it. A token
// sees itself and the window - 1 before it.
struct AttentionTask {
    const void* keys;
    const void* values;
    const std::int64_t* table;
    std::int64_t block_size, block_stride;
    std::int64_t position, tokens, repeats, head_dim, window;
};

struct Kernels {
    // Bytes of a row of `inputs` numbers made ready for products with matrices of a kind.
    std::int64_t (*ready_bytes)(Kind kind, std::int64_t inputs);
    // Make the columns `begin` to `end` of rows ready; begin is a multiple of kGroup. x points at column `begin`.
    void (*make_ready)(Kind kind, const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t begin,
                       std::int64_t end, std::int64_t inputs, void* ready);
    // y[r][o - begin] = x[r] . w[o] for outputs from `begin`, a multiple of kBlock, to `end`.
    void (*product)(const Matrix& w, const void* ready, std::int64_t rows, std::int64_t begin, std::int64_t end,
                    float* y, std::int64_t y_stride);
    // gate = silu(gate) * up
    void (*swiglu)(float* gate, const float* up, std::int64_t count);
    // y = x / sqrt(mean(x ** 2) + eps) * weight, one row; `kind` is the weight's.
    void (*rms_norm)(Kind kind, const float* x, const void* weight, std::int64_t count, float eps, float* y);
    // The pairs of one head turned by their angles.
    void (*rotate)(const float* x, const float* cos, const float* sin, std::int64_t half, float* y);
    // To a float kind.
    void (*convert)(Kind kind, const float* x, std::int64_t count, void* y);
    // Bytes of scratch that attend needs for so many rows (tokens x repeats).
    std::int64_t (*attention_scratch)(std::int64_t rows);
    // `kind` is that of keys and values; queries, already scaled, and out are [tokens * repeats, head_dim].
    void (*attend)(Kind kind, const AttentionTask& task, const float* queries, float* out, void* scratch);
    // e ** x
    void (*exponential)(const float* x, std::int64_t count, float* y);
};

// The table of the variant that runs.
const Kernels& kernels();

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace mixtralkit
