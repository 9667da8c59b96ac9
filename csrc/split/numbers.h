// Numbers of 16 and 8 bits, and how they become floats and back: rounded to nearest, ties to even, the same bits
// everywhere.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

#include "split/both.h"

namespace mixtralkit::split {

MIXTRALKIT_BOTH uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
MIXTRALKIT_BOTH float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct Float32 {
    float value;
    MIXTRALKIT_BOTH float get() const { return value; }
    MIXTRALKIT_BOTH static Float32 from(float value) { return {value}; }
};

struct BFloat16 {
    uint16_t bits;
    MIXTRALKIT_BOTH float get() const { return float_of(uint32_t(bits) << 16); }
    MIXTRALKIT_BOTH static BFloat16 from(float value) {
        const uint32_t wide = bits_of(value);
        if (value != value) return {uint16_t(wide >> 16 | 0x40)};  // not a number, and no infinity by rounding
        return {uint16_t((wide + 0x7fff + (wide >> 16 & 1)) >> 16)};
    }
};

struct Float16 {
    uint16_t bits;
#if defined(__CUDA_ARCH__)
    MIXTRALKIT_BOTH float get() const { return __half2float(__ushort_as_half(bits)); }
    MIXTRALKIT_BOTH static Float16 from(float value) { return {__half_as_ushort(__float2half_rn(value))}; }
#else
    MIXTRALKIT_BOTH float get() const {
        const uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = bits & 0x7fff;
        if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | rest << 13);        // infinity, not a number
        if (rest < 0x400) return float_of(sign | bits_of(float(rest) * 0x1p-24f));  // subnormal
        return float_of(sign | ((rest << 13) + ((127 - 15) << 23)));
    }
    MIXTRALKIT_BOTH static Float16 from(float value) {
        const uint32_t wide = bits_of(value), sign = wide >> 16 & 0x8000, size = wide & 0x7fffffff;
        if (size > 0x7f800000) return {uint16_t(sign | 0x7e00)};
        if (size >= 0x477ff000) return {uint16_t(sign | 0x7c00)};  // 65520 and more
        if (size < 0x38800000)  // below 2^-14 in steps of 2^-24: the sum is rounded to them
            return {uint16_t(sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)))};
        return {uint16_t(sign | ((size - ((127 - 15) << 23) + 0xfff + (size >> 13 & 1)) >> 13))};
    }
#endif
};

// 4 bits of exponent, 3 of mantissa, no infinity; the largest is 448.
struct Float8 {
    static constexpr float kLargest = 448.0f;
    uint8_t bits;

    MIXTRALKIT_BOTH float get() const {
        const uint32_t sign = uint32_t(bits & 0x80) << 24, exponent = bits >> 3 & 15, mantissa = bits & 7;
        if ((bits & 0x7f) == 0x7f) return float_of(sign | 0x7fc00000);
        if (exponent == 0) return float_of(sign | bits_of(float(mantissa) * 0x1p-9f));
        return float_of(sign | (exponent + 127 - 7) << 23 | mantissa << 20);
    }
    MIXTRALKIT_BOTH static Float8 from(float value) {
        const uint32_t wide = bits_of(value), sign = wide >> 24 & 0x80, size = wide & 0x7fffffff;
        if (size > 0x7f800000) return {uint8_t(sign | 0x7f)};
        if (float_of(size) >= 464.0f) return {uint8_t(sign | 0x7e)};  // where 448 and 480, were it there, meet
        if (size < 0x3c800000)  // below 2^-6 in steps of 2^-9: the sum is rounded to them
            return {uint8_t(sign | (bits_of(float_of(size) + 0x1p14f) - bits_of(0x1p14f)))};
        return {uint8_t(sign | ((size - ((127 - 7) << 23) + 0x7ffff + (size >> 20 & 1)) >> 20))};
    }
};

}  // namespace mixtralkit::split
