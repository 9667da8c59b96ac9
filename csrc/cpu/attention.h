// Attention of some queries that share a KV head, by the online softmax (arXiv:1805.02867, arXiv:2205.14135).
//
// Positions are taken in chunks that begin at multiples of kChunk, whatever the queries, and within a chunk in a fixed
// order; positions that a query does not see count as zeros. So a query's bits depend on nothing but its own position.
#pragma once

#include <cstdint>

#include "cpu/elementwise.h"
#include "cpu/fetch.h"
#include "cpu/float_product.h"
#include "cpu/kernels.h"

namespace mixtralkit {
namespace {

constexpr float kNothing = -__builtin_inff();

// What is known of a query so far: the greatest score, and by lane the sum of e ** (score - greatest); and which
// positions of the chunk at hand it sees.
struct Running {
    float greatest;
    int first, last;
    Lanes total;
};

inline float exponential_of_one(float x) {
    float all[kLanes];
    store(all, exponential(same_lanes(x)));
    return all[0];
}

// The scores of one query become their weights, e ** (score - greatest). Returns the factor by which everything before
// shrinks.
inline float weigh(float* scores, Running& running) {
    const int first = running.first, last = running.last;
    if (first >= last) return 1.0f;
    for (int i = 0; i < first; ++i) scores[i] = kNothing;
    for (int i = last; i < kChunk; ++i) scores[i] = kNothing;
    Lanes most = same_lanes(running.greatest);
    for (int i = 0; i < kChunk; i += kLanes) most = greater(most, load(scores + i));
    const float now = greatest(most);
    const float shrink = running.greatest == now ? 1.0f : exponential_of_one(running.greatest - now);
    Lanes total = running.total * same_lanes(shrink);
    for (int i = 0; i < kChunk; i += kLanes) {
        const Lanes weight = exponential(load(scores + i) - same_lanes(now));
        store(scores + i, weight);
        total = total + weight;
    }
    running = {now, first, last, total};
    return shrink;
}

// Where the keys and values of a chunk's positions are: those from j * length on, each behind the one before, begin
// at[j] numbers behind the head's own in block 0.
struct Runs {
    std::int64_t at[kChunk];
    int length;
};

// Of the positions from `chunk` on. Runs that begin at `end` or later are the last one once more: addresses that may be
// fetched.
inline Runs runs_of(const AttentionTask& task, std::int64_t chunk, std::int64_t end) {
    Runs runs;
    runs.length = static_cast<int>(task.block_size < kChunk ? task.block_size : kChunk);
    const std::int64_t last = (end - 1) / runs.length * runs.length;
    for (std::int64_t j = 0; j < kChunk / runs.length; ++j) {
        const std::int64_t next = chunk + j * runs.length, position = next < last ? next : last;
        runs.at[j] =
            task.table[position / task.block_size] * task.block_stride + position % task.block_size * task.head_dim;
    }
    return runs;
}

// out[r] += sum over i from `first` to `last` of weights[r][i] * values[i], for kRows queries and one vector of
// elements. kFetch brings in what the next chunk has in the same places.
template <int kRows, bool kFetch, class Number, class Load, class Store>
inline void add_values(const float* weights, const Number* values, const Runs& now, const Runs& next,
                       std::int64_t width, int first, int last, float* out, Load load_part, Store store_part) {
    Lanes sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = load_part(out + r * width);
    for (int j = 0, begin = 0; begin < last; ++j, begin += now.length) {
        const int end = last < begin + now.length ? last : begin + now.length;
        for (int i = begin < first ? first : begin; i < end; ++i) {
            if constexpr (kFetch) fetch(values + next.at[j] + (i - begin) * width);
            const Lanes value = load_part(values + now.at[j] + (i - begin) * width);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) sums[r] = fma(same_lanes(weights[r * kChunk + i]), value, sums[r]);
        }
    }
    for (int r = 0; r < kRows; ++r) store_part(out + r * width, sums[r]);
}

template <int kRows, bool kFetch, class Number>
inline void add_all_values(const float* weights, const Number* values, const Runs& now, const Runs& next,
                           std::int64_t width, int first, int last, float* out) {
    std::int64_t at = 0;
    for (; at + kLanes <= width; at += kLanes) {
        add_values<kRows, kFetch>(
            weights, values + at, now, next, width, first, last, out + at, [](auto* p) { return load(p); },
            [](float* p, Lanes a) { store(p, a); });
    }
    if (const int rest = static_cast<int>(width - at)) {
        add_values<kRows, kFetch>(
            weights, values + at, now, next, width, first, last, out + at, [=](auto* p) { return load_first(p, rest); },
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
    for (std::int64_t r = 0; r < rows; ++r) running[r] = {kNothing, 0, 0, zero_lanes()};
    for (std::int64_t i = 0; i < rows * width; ++i) out[i] = 0.0f;
    const auto first_seen = [&](std::int64_t position) {
        return position < task.window ? 0 : position - task.window + 1;
    };
    const auto *keys = static_cast<const Number*>(task.keys), *values = static_cast<const Number*>(task.values);
    const std::int64_t begin = first_seen(task.position) / kChunk * kChunk, end = task.position + task.tokens;
    Runs now, next = runs_of(task, begin, end);
    for (std::int64_t chunk = begin; chunk < end; chunk += kChunk) {
        now = next, next = runs_of(task, chunk + kChunk, end);
        const int count = static_cast<int>(end - chunk < kChunk ? end - chunk : kChunk);
        for (int i = 0, j = 0; i < count; i += now.length, ++j) {
            float_product<Floats<Number>>(queries, rows, keys + now.at[j],
                                          count - i < now.length ? count - i : now.length, width, scores + i, kChunk,
                                          next.at[j] - now.at[j]);
        }
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t position = task.position + r / task.repeats;
            const auto inside = [&](std::int64_t at) {
                return static_cast<int>(at < chunk ? 0 : at - chunk < kChunk ? at - chunk : kChunk);
            };
            running[r].first = inside(first_seen(position));
            running[r].last = inside(position + 1);
            const float shrink = weigh(scores + r * kChunk, running[r]);
            for (std::int64_t i = 0; shrink != 1.0f && i < width; ++i) out[r * width + i] *= shrink;
        }
        // Queries that see the same positions go through together; the first ones fetch for all. What a query does not
        // see is not even multiplied by 0: it may be infinite.
        for (std::int64_t r = 0; r < rows;) {
            const int first = running[r].first, last = running[r].last;
            bool four = r + 4 <= rows;
            for (std::int64_t i = r; four && i < r + 4; ++i)
                four = running[i].first == first && running[i].last == last;
            const auto add = r == 0 ? (four ? add_all_values<4, true, Number> : add_all_values<1, true, Number>)
                                    : (four ? add_all_values<4, false, Number> : add_all_values<1, false, Number>);
            add(scores + r * kChunk, values, now, next, width, first, last, out + r * width);
            r += four ? 4 : 1;
        }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        const float total = sum(running[r].total);
        for (std::int64_t i = 0; i < width; ++i) out[r * width + i] /= total;
    }
}

}  // namespace
}  // namespace mixtralkit
