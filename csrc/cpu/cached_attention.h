// The attention of a batch over the KV cache of one layer.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/matrix.h"

namespace mixtralkit {

// Keys and values are each [blocks, kv_heads, block_size, head_dim].
struct CacheShape {
    Kind kind;
    std::int64_t blocks, kv_heads, block_size, head_dim;
};

// `length` tokens of a request from position `start` on: the rows of the batch from `row` on. table[i] is the block of
// the request's positions from i * block_size on.
struct Segment {
    const std::int64_t* table;
    std::int64_t start, length, row;
};

// Rows of `heads` queries, then the keys and the values of all KV heads; the angles of each row; how far a token sees.
struct AttentionInputs {
    const float* qkv;
    const float* cos;
    const float* sin;
    std::int64_t heads, window;
};

// Turns queries and keys by their angles, puts keys and values into the cache, and attends, when all of them are there;
// out is [rows, heads, head_dim].
void cached_attention(const AttentionInputs& in, const std::vector<Segment>& segments, const CacheShape& shape,
                      void* keys, void* values, float* out);

}  // namespace mixtralkit
