// Eight floats side by side, in plain C++ for any processor. To be included by *_portable.cpp only.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"

namespace mixtralkit {
namespace {

constexpr int kLanes = 8;
constexpr int kTileRows = 4, kTileOutputs = 2;  // of float products

struct Lanes {
    float v[kLanes];
};

// Sixteen int32 side by side.
struct IntLanes {
    std::int32_t v[16];
};

// Sixty-four bytes: the codes of 4 inputs for each of 16 outputs.
struct CodeLanes {
    std::uint8_t v[64];
};

template <class Function>
inline Lanes each_lane(Function function) {
    Lanes result;
    for (int i = 0; i < kLanes; ++i) result.v[i] = function(i);
    return result;
}

inline float to_float(float x) { return x; }
inline float float_of_bits(std::uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
inline float to_float(Bf16 x) { return float_of_bits(static_cast<std::uint32_t>(x.bits) << 16); }
// By a multiplication, which makes whole numbers of gradual underflow too; infinity and NaN are set right afterwards.
inline float to_float(Fp16 x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
    const std::uint32_t rest = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
    const bool finite = (x.bits & 0x7c00u) != 0x7c00u;
    const std::uint32_t magnitude = finite ? bits_of(float_of_bits(rest) * 0x1p112f) : rest | 0x7f800000u;
    return float_of_bits(sign | magnitude);
}
inline void from_float(float& to, float x) { to = x; }
// Rounded to the nearest, ties to even; NaN stays NaN.
inline void from_float(Bf16& to, float x) {
    const std::uint32_t bits = bits_of(x);
    to.bits = static_cast<std::uint16_t>(x != x ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline void from_float(Fp16& to, float x) {
    const std::uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
    const float size = __builtin_fabsf(x);
    std::uint32_t bits;
    if (x != x) {
        bits = 0x7e00u;
    } else if (size >= 65520.0f) {
        bits = 0x7c00u;
    } else if (size < 0x1p-14f) {
        bits =
            static_cast<std::uint32_t>(__builtin_nearbyintf(size * 0x1p24f));  // gradual underflow: steps of 2 ** -24
    } else {
        const std::uint32_t wide = bits_of(size);
        bits = (wide + 0xfffu + ((wide >> 13) & 1u) - (112u << 23)) >> 13;
    }
    to.bits = static_cast<std::uint16_t>(sign | bits);
}

inline Lanes same_lanes(float x) {
    return each_lane([=](int) { return x; });
}
inline Lanes zero_lanes() { return same_lanes(0.0f); }

template <class Number>
inline Lanes load(const Number* p) {
    return each_lane([=](int i) { return to_float(p[i]); });
}
// The first `count` numbers at p, below 8, and zeros.
template <class Number>
inline Lanes load_first(const Number* p, int count) {
    return each_lane([=](int i) { return i < count ? to_float(p[i]) : 0.0f; });
}
template <class Number>
inline void store_first(Number* p, int count, Lanes a) {
    for (int i = 0; i < count; ++i) from_float(p[i], a.v[i]);
}
template <class Number>
inline void store(Number* p, Lanes a) {
    store_first(p, kLanes, a);
}

inline Lanes operator+(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] + b.v[i]; });
}
inline Lanes operator-(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] - b.v[i]; });
}
inline Lanes operator*(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] * b.v[i]; });
}
inline Lanes operator/(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] / b.v[i]; });
}
// Fused where the processor does it; elsewhere that would be a call of a slow function.
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
#ifdef __FP_FAST_FMAF
    return each_lane([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
#else
    return a * b + c;
#endif
}
// The greater, or lesser, of each; b where one is NaN.
inline Lanes greater(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Lanes lesser(Lanes a, Lanes b) {
    return each_lane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Lanes absolute(Lanes a) {
    return each_lane([&](int i) { return __builtin_fabsf(a.v[i]); });
}
inline Lanes round_even(Lanes a) {
    return each_lane([&](int i) { return __builtin_nearbyintf(a.v[i]); });
}
// a * 2 ** n for whole n of -252 to 254: in two steps, so that neither factor overflows.
inline Lanes times_power_of_two(Lanes a, Lanes n) {
    return each_lane([&](int i) {
        const auto whole = static_cast<std::int32_t>(n.v[i]);
        const std::int32_t half = whole >> 1;
        const auto power = [](std::int32_t e) { return float_of_bits(static_cast<std::uint32_t>(e + 127) << 23); };
        return a.v[i] * power(half) * power(whole - half);
    });
}

inline float sum(Lanes a) {
    float four[4];
    for (int i = 0; i < 4; ++i) four[i] = a.v[i] + a.v[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}
inline float greatest(Lanes a) {
    float result = a.v[0];
    for (int i = 1; i < kLanes; ++i) result = a.v[i] > result ? a.v[i] : result;
    return result;
}

inline IntLanes same_int_lanes(std::int32_t x) {
    IntLanes result;
    for (auto& lane : result.v) lane = x;
    return result;
}
inline IntLanes operator+(IntLanes a, const IntLanes& b) {
    for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
    return a;
}
inline void to_float(IntLanes a, Lanes* parts) {
    for (int i = 0; i < 16; ++i) parts[i / kLanes].v[i % kLanes] = static_cast<float>(a.v[i]);
}
// Whole numbers of -128 to 127, as bytes.
inline void store_bytes(std::int8_t* p, Lanes a) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<std::int8_t>(a.v[i]);
}
inline std::int32_t whole_sum(Lanes a) {
    std::int32_t result = 0;
    for (const float x : a.v) result += static_cast<std::int32_t>(x);
    return result;
}

inline CodeLanes load_codes(const std::uint8_t* p) {
    CodeLanes result;
    __builtin_memcpy(result.v, p, 64);
    return result;
}
inline CodeLanes low_nibbles(CodeLanes a) {
    for (auto& code : a.v) code &= 15;
    return a;
}
inline CodeLanes high_nibbles(CodeLanes a) {
    for (auto& code : a.v) code >>= 4;
    return a;
}

// What dot4 of codes of the given offset starts from, so that the offset is taken out of the whole group's product.
inline IntLanes dot_start(std::int32_t offset, std::int32_t sum_of_inputs) {
    return same_int_lanes(-offset * sum_of_inputs);
}
// acc + the exact product of each output's 4 codes with the 4 inputs at x.
template <int kOffset>
inline IntLanes dot4(IntLanes acc, const CodeLanes& codes, const std::int8_t* x) {
    for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 4; ++j) acc.v[i] += static_cast<std::int32_t>(codes.v[4 * i + j]) * x[j];
    }
    return acc;
}

}  // namespace
}  // namespace mixtralkit
