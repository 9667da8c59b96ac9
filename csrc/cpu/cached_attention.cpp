#include "cpu/cached_attention.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/tasks.h"

namespace mixtralkit {
namespace {

std::int64_t itemsize(Kind kind) { return kind == Kind::float32 ? 4 : 2; }

// Some tokens of a segment; the tasks of an attention are these times the KV heads.
struct Part {
    const Segment* segment;
    std::int64_t first, tokens;
};

class LayerCache {
  public:
    LayerCache(const CacheShape& shape, void* keys, void* values)
        : shape_(shape), keys_(static_cast<char*>(keys)), values_(static_cast<char*>(values)) {}

    void* key(std::int64_t block, std::int64_t head, std::int64_t at) const { return keys_ + offset(block, head, at); }
    void* value(std::int64_t block, std::int64_t head, std::int64_t at) const {
        return values_ + offset(block, head, at);
    }

  private:
    std::int64_t offset(std::int64_t block, std::int64_t head, std::int64_t at) const {
        return ((block * shape_.kv_heads + head) * shape_.block_size + at) * shape_.head_dim * itemsize(shape_.kind);
    }

    CacheShape shape_;
    char *keys_, *values_;
};

// Keys turned and values of one part, into the cache.
void store_part(const Kernels& run, const AttentionInputs& in, const CacheShape& shape, const LayerCache& cache,
                const Part& part) {
    const std::int64_t d = shape.head_dim, width = (in.heads + 2 * shape.kv_heads) * d;
    const Scratch turned(d * 4);
    for (std::int64_t t = part.first; t < part.first + part.tokens; ++t) {
        const std::int64_t row = part.segment->row + t, position = part.segment->start + t;
        const std::int64_t block = part.segment->table[position / shape.block_size], at = position % shape.block_size;
        const float* key = in.qkv + row * width + in.heads * d;
        for (std::int64_t g = 0; g < shape.kv_heads; ++g, key += d) {
            run.rotate(key, in.cos + row * d / 2, in.sin + row * d / 2, d / 2, turned.floats());
            run.convert(shape.kind, turned.floats(), d, cache.key(block, g, at));
            run.convert(shape.kind, key + shape.kv_heads * d, d, cache.value(block, g, at));
        }
    }
}

// The queries of one part that share the KV head `head`.
void attend_part(const Kernels& run, const AttentionInputs& in, const CacheShape& shape, const LayerCache& cache,
                 const Part& part, std::int64_t head, float* out) {
    const std::int64_t d = shape.head_dim, width = (in.heads + 2 * shape.kv_heads) * d;
    const std::int64_t repeats = in.heads / shape.kv_heads, rows = part.tokens * repeats;
    const Scratch memory(2 * rows * d * 4), scratch(run.attention_scratch(rows));
    float *queries = memory.floats(), *results = queries + rows * d;
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t row = part.segment->row + part.first + r / repeats;
        const float* query = in.qkv + row * width + (head * repeats + r % repeats) * d;
        run.rotate(query, in.cos + row * d / 2, in.sin + row * d / 2, d / 2, queries + r * d);
    }
    for (std::int64_t i = 0; i < rows * d; ++i) queries[i] *= scale;
    const AttentionTask task{cache.key(0, head, 0),
                             cache.value(0, head, 0),
                             part.segment->table,
                             shape.block_size,
                             shape.kv_heads * shape.block_size * d,
                             part.segment->start + part.first,
                             part.tokens,
                             repeats,
                             d,
                             in.window};
    run.attend(shape.kind, task, queries, results, scratch.at());
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t row = part.segment->row + part.first + r / repeats;
        std::copy_n(results + r * d, d, out + (row * in.heads + head * repeats + r % repeats) * d);
    }
}

}  // namespace

void cached_attention(const AttentionInputs& in, const std::vector<Segment>& segments, const CacheShape& shape,
                      void* keys, void* values, float* out) {
    const Kernels& run = kernels();
    const LayerCache cache(shape, keys, values);
    std::vector<Part> parts;
    for (const Segment& segment : segments) {
        for (std::int64_t t = 0; t < segment.length; t += kTokensPerTask) {
            parts.push_back({&segment, t, std::min(kTokensPerTask, segment.length - t)});
        }
    }
    const auto count = static_cast<std::int64_t>(parts.size());
    each_task(count, [&](std::int64_t i) { store_part(run, in, shape, cache, parts[static_cast<std::size_t>(i)]); });
    // The last tokens see the most: they go first, so that no thread is left with a long one at the end.
    each_task(count * shape.kv_heads, [&](std::int64_t i) {
        const auto part = static_cast<std::size_t>(count - 1 - i / shape.kv_heads);
        attend_part(run, in, shape, cache, parts[part], i % shape.kv_heads, out);
    });
}

}  // namespace mixtralkit
