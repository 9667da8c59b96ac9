// Eight floats side by side, in AVX2 with FMA. To be included by *_avx2.cpp only.
#pragma once

#include <cstdint>
#include <immintrin.h>

#include "cpu/numbers.h"

namespace mixtralkit {
namespace {

constexpr int kLanes = 8;
constexpr int kTileRows = 4, kTileOutputs = 3;  // of float products: 12 sums of 16 registers

struct Lanes {
    __m256 v;
};

// Sixteen int32 side by side.
struct IntLanes {
    __m256i low, high;
};

// Sixty-four bytes: the codes of 4 inputs for each of 16 outputs.
struct CodeLanes {
    __m256i low, high;
};

inline Lanes zero_lanes() { return {_mm256_setzero_ps()}; }
inline Lanes same_lanes(float x) { return {_mm256_set1_ps(x)}; }

inline Lanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Lanes widen(__m128i halves, Bf16) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
}
inline Lanes widen(__m128i halves, Fp16) { return {_mm256_cvtph_ps(halves)}; }
template <class Half>
inline Lanes load(const Half* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), Half{});
}

// The first `count` numbers at p, below 8, and zeros.
template <class Number>
inline Lanes load_first(const Number* p, int count) {
    Number padded[kLanes] = {};
    for (int i = 0; i < count; ++i) padded[i] = p[i];
    return load(padded);
}

inline void store(float* p, Lanes a) { _mm256_storeu_ps(p, a.v); }
// Rounded to the nearest, ties to even; NaN stays NaN.
inline void store(Bf16* p, Lanes a) {
    const __m256i bits = _mm256_castps_si256(a.v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan);
    const __m256i high = _mm256_srli_epi32(kept, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline void store(Fp16* p, Lanes a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
template <class Number>
inline void store_first(Number* p, int count, Lanes a) {
    Number whole[kLanes];
    store(whole, a);
    for (int i = 0; i < count; ++i) p[i] = whole[i];
}

inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// The greater, or lesser, of each; b where one is NaN.
inline Lanes greater(Lanes a, Lanes b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Lanes lesser(Lanes a, Lanes b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Lanes absolute(Lanes a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Lanes round_even(Lanes a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2 ** n for whole n of -252 to 254: in two steps, so that neither factor overflows.
inline Lanes times_power_of_two(Lanes a, Lanes n) {
    const __m256i whole = _mm256_cvtps_epi32(n.v);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const auto power = [](__m256i e) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
    };
    return {_mm256_mul_ps(_mm256_mul_ps(a.v, power(half)), power(_mm256_sub_epi32(whole, half)))};
}

inline float sum(Lanes a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float greatest(Lanes a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline IntLanes same_int_lanes(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline IntLanes operator+(IntLanes a, IntLanes b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline void to_float(IntLanes a, Lanes* parts) {
    parts[0] = {_mm256_cvtepi32_ps(a.low)};
    parts[1] = {_mm256_cvtepi32_ps(a.high)};
}
// Whole numbers of -128 to 127, as bytes.
inline void store_bytes(std::int8_t* p, Lanes a) {
    const __m256i whole = _mm256_cvtps_epi32(a.v);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline std::int32_t whole_sum(Lanes a) {
    const __m256i whole = _mm256_cvtps_epi32(a.v);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

inline CodeLanes load_codes(const std::uint8_t* p) {
    const auto* halves = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
inline CodeLanes low_nibbles(CodeLanes a) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
}
inline CodeLanes high_nibbles(CodeLanes a) {
    return low_nibbles({_mm256_srli_epi16(a.low, 4), _mm256_srli_epi16(a.high, 4)});
}

// What dot4 of codes of the given offset starts from, so that the offset is taken out of the whole group's product.
// dot4 takes out an offset of 128 itself.
inline IntLanes dot_start(std::int32_t offset, std::int32_t sum_of_inputs) {
    return same_int_lanes(offset == 128 ? 0 : -offset * sum_of_inputs);
}
// Eight outputs of dot4. The pairs that vpmaddubsw adds must fit 16 bits: codes of 4 bits do (2 * 15 * 127); of those
// of 8 bits the absolute values do, once they are signed, and the inputs take their signs (2 * 127 * 127).
template <int kOffset>
inline __m256i dot4_of_eight(__m256i acc, __m256i codes, __m256i x) {
    __m256i pairs;
    if constexpr (kOffset == 128) {
        const __m256i w = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
        pairs = _mm256_maddubs_epi16(codes, x);
    }
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// acc + the exact product of each output's 4 codes with the 4 inputs at x.
template <int kOffset>
inline IntLanes dot4(IntLanes acc, CodeLanes codes, const std::int8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, 4);
    const __m256i inputs = _mm256_set1_epi32(four);
    return {dot4_of_eight<kOffset>(acc.low, codes.low, inputs), dot4_of_eight<kOffset>(acc.high, codes.high, inputs)};
}

}  // namespace
}  // namespace mixtralkit
