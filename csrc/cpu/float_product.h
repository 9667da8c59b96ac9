// Products of rows with float matrices. Each output is one sum over the inputs, in ascending steps of a vector: a lane
// always adds up the same inputs, then the lanes are added as a tree. How many rows and outputs go through together
// changes nothing.
#pragma once

#include <cstdint>

#include "cpu/fetch.h"
#include "cpu/matrix.h"

namespace mixtralkit {
namespace {

constexpr std::int64_t kFewRows = 8;
constexpr std::int64_t kFewBytes = 24 * 1024;  // of a first-level cache of 32 KB

// Products of float32 inputs with weights of any float type, in float32.
template <class W>
struct Floats {
    using Input = float;
    using Weight = W;
    using Operand = Lanes;
    static constexpr int kStep = kLanes;
    static Operand input(const float* p) { return load(p); }
    static Operand input_first(const float* p, int count) { return load_first(p, count); }
    static Operand weight(const W* p) { return load(p); }
    static Operand weight_first(const W* p, int count) { return load_first(p, count); }
    static Lanes add_product(Lanes acc, Operand x, Operand w) { return fma(x, w, acc); }
};

// kRows rows by kOutputs outputs: as many sums as there are registers for. kWhole says that the inputs fill whole
// steps: without code for a rest the compiler keeps the sums in registers to the end. Meanwhile the weights of kFetch
// outputs, which lie `ahead`, are fetched in the order in which they lie: on its own a processor does not look that
// far.
template <class Dot, int kRows, int kOutputs, bool kWhole, int kFetch>
inline void float_tile(const typename Dot::Input* x, std::int64_t x_stride, const typename Dot::Weight* w,
                       std::int64_t inputs, std::int64_t ahead, float* y, std::int64_t y_stride) {
    Lanes sums[kRows * kOutputs];
    for (auto& acc : sums) acc = zero_lanes();
    const auto add = [&](auto load_input, auto load_weight) {
        typename Dot::Operand weights[kOutputs];
#pragma GCC unroll 8
        for (int o = 0; o < kOutputs; ++o) weights[o] = load_weight(w + o * inputs);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const auto input = load_input(x + r * x_stride);
#pragma GCC unroll 8
            for (int o = 0; o < kOutputs; ++o) {
                sums[r * kOutputs + o] = Dot::add_product(sums[r * kOutputs + o], input, weights[o]);
            }
        }
    };
    std::int64_t i = 0;
    for (; i + Dot::kStep <= inputs; i += Dot::kStep) {
#pragma GCC unroll 8
        for (int o = 0; o < kFetch; ++o) fetch(w + ahead + i * kFetch + o * Dot::kStep);
        add([=](auto* p) { return Dot::input(p + i); }, [=](auto* p) { return Dot::weight(p + i); });
    }
    if constexpr (!kWhole) {
        const int rest = static_cast<int>(inputs - i);
        add([=](auto* p) { return Dot::input_first(p + i, rest); },
            [=](auto* p) { return Dot::weight_first(p + i, rest); });
    }
    if constexpr (kLanes == 16 && kRows * kOutputs == 16) {
        float all[16];
        store(all, sum_all(sums));
        for (int r = 0; r < kRows; ++r)
            __builtin_memcpy(y + r * y_stride, all + r * kOutputs, sizeof(float) * kOutputs);
    } else {
        // Unrolled: a sum that is looked up by its number would be kept in memory all along.
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
            for (int o = 0; o < kOutputs; ++o) y[r * y_stride + o] = sum(sums[r * kOutputs + o]);
        }
    }
}

// Calls float_tile with so many rows, at most kRows.
template <class Dot, bool kWhole, int kOutputs, int kFetch, int kRows>
inline void float_rows(const typename Dot::Input* x, std::int64_t rows, const typename Dot::Weight* w,
                       std::int64_t inputs, std::int64_t ahead, float* y, std::int64_t y_stride) {
    if constexpr (kRows > 0) {
        if (rows < kRows)
            return float_rows<Dot, kWhole, kOutputs, kFetch, kRows - 1>(x, rows, w, inputs, ahead, y, y_stride);
        float_tile<Dot, kRows, kOutputs, kWhole, kFetch>(x, inputs, w, inputs, ahead, y, y_stride);
    }
}

// One output after the other for all rows, which fit into the first-level cache: the weights are one stream. One or two
// rows take so little time that the processor's own look ahead is enough, and better.
template <class Dot, bool kWhole>
inline void float_few_rows(const typename Dot::Input* x, std::int64_t rows, const typename Dot::Weight* w,
                           std::int64_t outputs, std::int64_t inputs, std::int64_t ahead, float* y,
                           std::int64_t y_stride) {
    const auto run = rows <= 2 ? float_rows<Dot, kWhole, 1, 0, 2> : float_rows<Dot, kWhole, 1, 1, kFewRows>;
    for (std::int64_t o = 0; o < outputs; ++o) run(x, rows, w + o * inputs, inputs, ahead, y + o, y_stride);
}

// Tiles share what is loaded among several rows and outputs. The next tile's weights are fetched beside all rows, a
// share beside each tile: if the first fetched them all, memory would have nothing to do during the others.
template <class Dot, bool kWhole>
inline void float_tiles(const typename Dot::Input* x, std::int64_t rows, const typename Dot::Weight* w,
                        std::int64_t outputs, std::int64_t inputs, float* y, std::int64_t y_stride) {
    const auto each_tile = [&]<int kOutputs>(std::int64_t o) {
        std::int64_t fetched = 0;
        for (std::int64_t r = 0; r < rows; r += kTileRows) {
            const std::int64_t left = rows - r, tiles = (left + kTileRows - 1) / kTileRows;
            const std::int64_t share = (kOutputs - fetched + tiles - 1) / tiles;
            const auto run = share == kOutputs ? float_rows<Dot, kWhole, kOutputs, kOutputs, kTileRows>
                             : share == 2      ? float_rows<Dot, kWhole, kOutputs, 2, kTileRows>
                             : share == 1      ? float_rows<Dot, kWhole, kOutputs, 1, kTileRows>
                                               : float_rows<Dot, kWhole, kOutputs, 0, kTileRows>;
            run(x + r * inputs, left < kTileRows ? left : kTileRows, w + o * inputs, inputs,
                inputs * (kOutputs + fetched), y + r * y_stride + o, y_stride);
            fetched += share;
        }
    };
    std::int64_t o = 0;
    for (; o + kTileOutputs <= outputs; o += kTileOutputs) each_tile.template operator()<kTileOutputs>(o);
    for (; o < outputs; ++o) each_tile.template operator()<1>(o);
}

// y[r][o] = x[r] . w[o] for `outputs` rows of w. With few rows, the weights that lie `ahead` are fetched.
template <class Dot>
inline void float_product(const void* x, std::int64_t rows, const void* w, std::int64_t outputs, std::int64_t inputs,
                          float* y, std::int64_t y_stride,
                          std::int64_t ahead = kFetchAhead / sizeof(typename Dot::Weight)) {
    const auto* input = static_cast<const typename Dot::Input*>(x);
    const auto* weight = static_cast<const typename Dot::Weight*>(w);
    const bool few = rows <= kFewRows && rows * inputs * static_cast<std::int64_t>(sizeof(*input)) <= kFewBytes;
    if (few) {
        const auto run = inputs % Dot::kStep ? float_few_rows<Dot, false> : float_few_rows<Dot, true>;
        return run(input, rows, weight, outputs, inputs, ahead, y, y_stride);
    }
    const auto run = inputs % Dot::kStep ? float_tiles<Dot, false> : float_tiles<Dot, true>;
    run(input, rows, weight, outputs, inputs, y, y_stride);
}

}  // namespace
}  // namespace mixtralkit
