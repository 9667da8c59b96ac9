// Attention of some queries that share a KV head, by the online softmax (arXiv:1805.02867, arXiv:2205.14135).
//
// Positions are taken in chunks that begin at multiples of kChunk, whatever the queries, and within a chunk in a fixed
// order; positions that a query does not see count as zeros. So a query's bits depend on nothing but its own position.
#pragma once

#include <cstdint>

#include "cpu/elementwise.h"
#include "cpu/float_product.h"
#include "cpu/kernels.h"

namespace mixtralkit {
namespace {

constexpr float kNothing = -__builtin_inff();

// What is known of a query so far: the greatest score, and by lane the sum of e ** (score - greatest).
struct Running {
    float greatest;
    Lanes total;
};

// The scores of one query become their weights, e ** (score - greatest); those outside [first, last) become 0. Returns
// the factor by which everything before shrinks.
inline float weigh(float* scores, int first, int last, Running& running) {
    if (first >= last) {
        for (int i = 0; i < kChunk; i += kLanes) store(scores + i, zero_lanes());
        return 1.0f;
    }
    for (int i = 0; i < first; ++i) scores[i] = kNothing;
    for (int i = last; i < kChunk; ++i) scores[i] = kNothing;
    Lanes most = same_lanes(running.greatest);
    for (int i = 0; i < kChunk; i += kLanes) most = greater(most, load(scores + i));
    const float now = greatest(most);
    const float shrink = running.greatest == now ? 1.0f : __builtin_expf(running.greatest - now);
    Lanes total = running.total * same_lanes(shrink);
    for (int i = 0; i < kChunk; i += kLanes) {
        const Lanes weight = exponential(load(scores + i) - same_lanes(now));
        store(scores + i, weight);
        total = total + weight;
    }
    running = {now, total};
    return shrink;
}

// out[r][at...] += sum over i of weights[r][i] * values[i][at...], for kRows queries and one vector of elements.
template <int kRows, class Number, class Load, class Store>
inline void add_values(const float* weights, const Number* values, std::int64_t width, int count, float* out,
                       Load load_part, Store store_part) {
    Lanes sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = load_part(out + r * width);
    for (int i = 0; i < count; ++i) {
        const Lanes value = load_part(values + i * width);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sums[r] = fma(same_lanes(weights[r * kChunk + i]), value, sums[r]);
    }
    for (int r = 0; r < kRows; ++r) store_part(out + r * width, sums[r]);
}

template <int kRows, class Number>
inline void add_all_values(const float* weights, const Number* values, std::int64_t width, int count, float* out) {
    std::int64_t at = 0;
    for (; at + kLanes <= width; at += kLanes) {
        add_values<kRows>(
            weights, values + at, width, count, out + at, [](auto* p) { return load(p); },
            [](float* p, Lanes a) { store(p, a); });
    }
    if (const int rest = static_cast<int>(width - at)) {
        add_values<kRows>(
            weights, values + at, width, count, out + at, [=](auto* p) { return load_first(p, rest); },
            [=](float* p, Lanes a) { store_first(p, rest, a); });
    }
}

// The queries' rows are in token-major order, `task.repeats` of them a token. `scratch` has room for
// attention_scratch(rows) bytes.
template <class Number>
inline void attend(const AttentionTask& task, const float* queries, float* out, void* scratch) {
    const std::int64_t width = task.head_dim, rows = task.tokens * task.repeats;
    auto* running = static_cast<Running*>(scratch);
    auto* scores = reinterpret_cast<float*>(running + rows);
    for (std::int64_t r = 0; r < rows; ++r) running[r] = {kNothing, zero_lanes()};
    for (std::int64_t i = 0; i < rows * width; ++i) out[i] = 0.0f;
    const auto first_seen = [&](std::int64_t position) {
        return position < task.window ? 0 : position - task.window + 1;
    };
    const std::int64_t end = task.position + task.tokens;
    for (std::int64_t chunk = first_seen(task.position) / kChunk * kChunk; chunk < end; chunk += kChunk) {
        const int count = static_cast<int>(end - chunk < kChunk ? end - chunk : kChunk);
        const auto* keys = static_cast<const Number*>(task.keys) + chunk * width;
        const auto* values = static_cast<const Number*>(task.values) + chunk * width;
        float_product<Floats<Number>>(queries, rows, keys, count, width, scores, kChunk);
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t position = task.position + r / task.repeats;
            const auto inside = [&](std::int64_t at) {
                return static_cast<int>(at < chunk ? 0 : at - chunk < kChunk ? at - chunk : kChunk);
            };
            const float shrink =
                weigh(scores + r * kChunk, inside(first_seen(position)), inside(position + 1), running[r]);
            for (std::int64_t i = 0; shrink != 1.0f && i < width; ++i) out[r * width + i] *= shrink;
        }
        std::int64_t r = 0;
        for (; r + 4 <= rows; r += 4) add_all_values<4>(scores + r * kChunk, values, width, count, out + r * width);
        for (; r < rows; ++r) add_all_values<1>(scores + r * kChunk, values, width, count, out + r * width);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        const float total = sum(running[r].total);
        for (std::int64_t i = 0; i < width; ++i) out[r * width + i] /= total;
    }
}

}  // namespace
}  // namespace mixtralkit
