// Products of rows with quantized matrices: exact in whole numbers within a group, then float32, group after group in
// ascending order. How many rows go through together changes nothing, and neither does the variant that has FMA.
#pragma once

#include <cstdint>

#include "cpu/fetch.h"
#include "cpu/matrix.h"

namespace mixtralkit {
namespace {

constexpr int kParts = 16 / kLanes;

// A row made ready for quantized products: its bytes, then the scale and the sum of each group of them.
struct QuantizedRow {
    std::int8_t* bytes;
    float* scales;
    std::int32_t* sums;

    static std::int64_t nbytes(std::int64_t inputs) { return inputs + inputs / kGroup * 8; }
    static QuantizedRow at(void* rows, std::int64_t r, std::int64_t inputs) {
        auto* bytes = static_cast<std::int8_t*>(rows) + r * nbytes(inputs);
        auto* scales = reinterpret_cast<float*>(bytes + inputs);
        return {bytes, scales, reinterpret_cast<std::int32_t*>(scales + inputs / kGroup)};
    }
};

// One group of a row: x ~ scale * byte, with the largest at 127 or -127. NaN or infinity in it make the scale NaN.
inline void quantize_group(const float* x, QuantizedRow row, std::int64_t group) {
    Lanes largest = zero_lanes(), not_finite = zero_lanes();
    for (std::int64_t i = 0; i < kGroup; i += kLanes) {
        const Lanes part = load(x + i);
        largest = greater(largest, absolute(part));
        not_finite = fma(part, zero_lanes(), not_finite);
    }
    const float scale = greatest(largest) / 127.0f + sum(not_finite);
    const Lanes divisor = same_lanes(scale > 0.0f ? scale : 1.0f);
    std::int32_t total = 0;
    for (std::int64_t i = 0; i < kGroup; i += kLanes) {
        // Beyond 127 only where the scale is so small that it was rounded coarsely.
        const Lanes whole = lesser(same_lanes(127.0f), greater(same_lanes(-127.0f), round_even(load(x + i) / divisor)));
        store_bytes(row.bytes + group * kGroup + i, whole);
        total += whole_sum(whole);
    }
    row.scales[group] = scale;
    row.sums[group] = total;
}

// kFetchFrom: for fewer rows the processor's own look ahead is as good, or better.
struct Int8 {
    static constexpr int kOffset = 128;
    static constexpr bool kMins = false;
    static constexpr std::int64_t kGroupBytes = kBlock * kGroup;
    static constexpr int kFetchFrom = 4;

    // Calls take(codes, i, n) with the codes of the inputs i to i + 3 of the group, for all i; it is the n-th call.
    template <bool kFetch, class Take>
    static void each_quad(const std::uint8_t* codes, Take take) {
#pragma GCC unroll 16
        for (int i = 0; i < kGroup; i += 4) {
            if constexpr (kFetch) fetch(codes + i * kBlock + kFetchAhead);
            take(load_codes(codes + i * kBlock), i, i / 4);
        }
    }
};

struct Int4 {
    static constexpr int kOffset = 0;
    static constexpr bool kMins = true;
    static constexpr std::int64_t kGroupBytes = kBlock * kGroup / 2;
    static constexpr int kFetchFrom = 2;

    template <bool kFetch, class Take>
    static void each_quad(const std::uint8_t* codes, Take take) {
#pragma GCC unroll 8
        for (int i = 0; i < kGroup / 2; i += 4) {
            if constexpr (kFetch) fetch(codes + i * kBlock + kFetchAhead);
            const CodeLanes both = load_codes(codes + i * kBlock);
            take(low_nibbles(both), i, i / 2);
            take(high_nibbles(both), i + kGroup / 2, i / 2 + 1);
        }
    }
};

// kRows rows by one block of 16 outputs; `scales` and `mins` are those of the block, `width` of its outputs exist.
template <class Codes, int kRows>
inline void quantized_tile(const QuantizedRow* rows, const std::uint8_t* codes, const Fp16* scales, const Fp16* mins,
                           std::int64_t inputs, float* y, std::int64_t y_stride, int width) {
    constexpr int kChains = kRows < 4 ? 4 / kRows : 1;  // few rows need several sums, or one would wait for itself
    Lanes totals[kRows][kParts];
    for (auto& row : totals) {
        for (auto& total : row) total = zero_lanes();
    }
    for (std::int64_t group = 0; group < inputs / kGroup; ++group) {
        IntLanes dots[kRows][kChains];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            dots[r][0] = dot_start(Codes::kOffset, rows[r].sums[group]);
#pragma GCC unroll 4
            for (int chain = 1; chain < kChains; ++chain) dots[r][chain] = same_int_lanes(0);
        }
        const auto multiply_quad = [&](CodeLanes quad, int i, int n) {
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                IntLanes& dot = dots[r][n % kChains];
                dot = dot4<Codes::kOffset>(dot, quad, rows[r].bytes + group * kGroup + i);
            }
        };
        Codes::template each_quad<(kRows >= Codes::kFetchFrom)>(codes + group * Codes::kGroupBytes, multiply_quad);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (int chain = 1; chain < kChains; ++chain) dots[r][0] = dots[r][0] + dots[r][chain];
        }
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            const std::int64_t at = group * kBlock + part * kLanes;
            const Lanes scale = load(scales + at);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                Lanes dot[kParts];
                to_float(dots[r][0], dot);
                Lanes& total = totals[r][part];
                total = fma(scale * same_lanes(rows[r].scales[group]), dot[part], total);
                if constexpr (Codes::kMins) {
                    const float all = rows[r].scales[group] * static_cast<float>(rows[r].sums[group]);
                    total = fma(load(mins + at), same_lanes(all), total);
                }
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        float row[kBlock];
        for (int part = 0; part < kParts; ++part) store(row + part * kLanes, totals[r][part]);
        for (int o = 0; o < width; ++o) y[r * y_stride + o] = row[o];
    }
}

// Calls quantized_tile with so many rows, at most kRows.
template <class Codes, int kRows = 8, class... Rest>
inline void quantized_rows(std::int64_t rows, Rest... rest) {
    if constexpr (kRows > 0) {
        if (rows < kRows) return quantized_rows<Codes, kRows - 1>(rows, rest...);
        quantized_tile<Codes, kRows>(rest...);
    }
}

// y[r][o] = x[r] . w[o] for the outputs `begin` (a multiple of 16) to `end` of the matrix.
template <class Codes>
inline void quantized_product(const void* x, std::int64_t rows, const Matrix& w, std::int64_t begin, std::int64_t end,
                              float* y, std::int64_t y_stride) {
    const std::int64_t groups = w.inputs / kGroup;
    for (std::int64_t o = begin; o < end; o += kBlock) {
        const auto* codes = static_cast<const std::uint8_t*>(w.data) + o / kBlock * groups * Codes::kGroupBytes;
        const Fp16* scales = w.scales + o * groups;
        const Fp16* mins = Codes::kMins ? w.mins + o * groups : nullptr;
        const int width = static_cast<int>(end - o < kBlock ? end - o : kBlock);
        for (std::int64_t r = 0; r < rows;) {
            QuantizedRow tile[8];
            const std::int64_t count = rows - r < 8 ? rows - r : 8;
            for (std::int64_t i = 0; i < count; ++i) tile[i] = QuantizedRow::at(const_cast<void*>(x), r + i, w.inputs);
            float* to = y + r * y_stride + (o - begin);
            quantized_rows<Codes>(count, tile, codes, scales, mins, w.inputs, to, y_stride, width);
            r += count;
        }
    }
}

}  // namespace
}  // namespace mixtralkit
