// Sixteen floats side by side, in AVX-512. To be included by *_avx512.cpp only.
#pragma once

#include <cstdint>
#include <immintrin.h>

#include "cpu/numbers.h"

namespace mixtralkit {
namespace {

constexpr int kLanes = 16;
constexpr int kTileRows = 4, kTileOutputs = 4;  // of float products: 16 sums, which sum_all adds up together

struct Lanes {
    __m512 v;
};

// Sixteen int32 side by side.
struct IntLanes {
    __m512i v;
};

// Sixty-four bytes: the codes of 4 inputs for each of 16 outputs.
struct CodeLanes {
    __m512i v;
};

inline __mmask16 first_mask(int count) { return static_cast<__mmask16>((1u << count) - 1u); }

inline Lanes zero_lanes() { return {_mm512_setzero_ps()}; }
inline Lanes same_lanes(float x) { return {_mm512_set1_ps(x)}; }

inline Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Lanes widen(__m256i halves, Bf16) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
inline Lanes widen(__m256i halves, Fp16) { return {_mm512_cvtph_ps(halves)}; }
template <class Half>
inline Lanes load(const Half* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), Half{});
}

// The first `count` numbers at p, below 16, and zeros.
inline Lanes load_first(const float* p, int count) { return {_mm512_maskz_loadu_ps(first_mask(count), p)}; }
template <class Half>
inline Lanes load_first(const Half* p, int count) {
    return widen(_mm256_maskz_loadu_epi16(first_mask(count), p), Half{});
}

inline void store(float* p, Lanes a) { _mm512_storeu_ps(p, a.v); }
inline void store_first(float* p, int count, Lanes a) { _mm512_mask_storeu_ps(p, first_mask(count), a.v); }
// Rounded to the nearest, ties to even; what is below the smallest normal number becomes 0, as in products of bfloat16.
inline void store(Bf16* p, Lanes a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a.v));
}
inline void store_first(Bf16* p, int count, Lanes a) {
    _mm256_mask_storeu_epi16(p, first_mask(count), (__m256i)_mm512_cvtneps_pbh(a.v));
}
inline void store(Fp16* p, Lanes a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_first(Fp16* p, int count, Lanes a) {
    _mm256_mask_storeu_epi16(p, first_mask(count), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}

inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// The greater, or lesser, of each; b where one is NaN.
inline Lanes greater(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes lesser(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Lanes absolute(Lanes a) { return {_mm512_abs_ps(a.v)}; }
inline Lanes round_even(Lanes a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2 ** n for whole n, with gradual underflow and overflow to infinity.
inline Lanes times_power_of_two(Lanes a, Lanes n) { return {_mm512_scalef_ps(a.v, n.v)}; }

// Halves are added, then quarters, then pairs: the order that sum_all keeps too.
inline float sum(Lanes a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
// The sums of 16 vectors, each added up in the same order as by sum(): halves, then quarters, ...
template <int kFirst, int kSecond>
inline __m512 fold_quarters(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, kFirst), _mm512_shuffle_f32x4(a, b, kSecond));
}
template <int kFirst, int kSecond>
inline __m512 fold_within(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, kFirst), _mm512_shuffle_ps(a, b, kSecond));
}
inline Lanes sum_all(const Lanes* a) {
    __m512 four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        // Vectors i, i + 4, i + 8 and i + 12: in the end 128 bits hold the sums of four neighbours.
        const __m512 low = fold_quarters<0x44, 0xee>(a[i].v, a[i + 4].v);
        const __m512 high = fold_quarters<0x44, 0xee>(a[i + 8].v, a[i + 12].v);
        four[i] = fold_quarters<0x88, 0xdd>(low, high);
    }
    return {
        fold_within<0x88, 0xdd>(fold_within<0x44, 0xee>(four[0], four[1]), fold_within<0x44, 0xee>(four[2], four[3]))};
}

inline float greatest(Lanes a) { return _mm512_reduce_max_ps(a.v); }

inline IntLanes same_int_lanes(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
inline IntLanes operator+(IntLanes a, IntLanes b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline void to_float(IntLanes a, Lanes* parts) { parts[0] = {_mm512_cvtepi32_ps(a.v)}; }
// Whole numbers of -128 to 127, as bytes.
inline void store_bytes(std::int8_t* p, Lanes a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
inline std::int32_t whole_sum(Lanes a) { return _mm512_reduce_add_epi32(_mm512_cvtps_epi32(a.v)); }

inline CodeLanes load_codes(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline CodeLanes low_nibbles(CodeLanes a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
inline CodeLanes high_nibbles(CodeLanes a) {
    return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))};
}

// What dot4 of codes of the given offset starts from, so that the offset is taken out of the whole group's product.
inline IntLanes dot_start(std::int32_t offset, std::int32_t sum_of_inputs) {
    return same_int_lanes(-offset * sum_of_inputs);
}
// acc + the exact product of each output's 4 codes with the 4 inputs at x.
template <int kOffset>
inline IntLanes dot4(IntLanes acc, CodeLanes codes, const std::int8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, 4);
    return {_mm512_dpbusd_epi32(acc.v, codes.v, _mm512_set1_epi32(four))};
}

// Products of bfloat16 with bfloat16: the inputs are rounded, pairs of products are added in float32.
struct Bf16Pairs {
    using Input = Bf16;
    using Weight = Bf16;
    using Operand = __m512bh;
    static constexpr int kStep = 32;
    static Operand input(const Bf16* p) { return (__m512bh)_mm512_loadu_si512(p); }
    static Operand input_first(const Bf16* p, int count) {
        return (__m512bh)_mm512_maskz_loadu_epi16((1u << count) - 1u, p);
    }
    static Operand weight(const Bf16* p) { return input(p); }
    static Operand weight_first(const Bf16* p, int count) { return input_first(p, count); }
    static Lanes add_product(Lanes acc, Operand x, Operand w) { return {_mm512_dpbf16_ps(acc.v, x, w)}; }
};

}  // namespace
}  // namespace mixtralkit
