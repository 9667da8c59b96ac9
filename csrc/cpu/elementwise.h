// Functions of single numbers and of single rows. A number's result does not depend on where in a row it stands.
#pragma once

#include <cstdint>

namespace mixtralkit {
namespace {

// e ** x, to about 1 unit in the last place. x = (n + f) ln 2 with whole n; a polynomial for e ** (f ln 2) in
// [-ln 2 / 2, ln 2 / 2], the Taylor series to the seventh power (remainder 5e-9 of the result).
inline Lanes exponential(Lanes x) {
    const Lanes bounded = lesser(same_lanes(100.0f), greater(same_lanes(-120.0f), x));
    const Lanes n = round_even(bounded * same_lanes(1.44269504f));
    const Lanes high = fma(n, same_lanes(-0.693359375f), bounded);  // ln 2 in two parts, the first exact times n
    const Lanes f = fma(n, same_lanes(2.12194440e-4f), high);
    constexpr float kTaylor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    Lanes p = zero_lanes();
    for (const float factor : kTaylor) p = fma(p, f, same_lanes(factor));
    return times_power_of_two(p, n);
}

// x / (1 + e ** -x)
inline Lanes silu(Lanes x) { return x / (same_lanes(1.0f) + exponential(zero_lanes() - x)); }

// gate = silu(gate) * up, for `count` numbers.
inline void swiglu(float* gate, const float* up, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(gate + i, silu(load(gate + i)) * load(up + i));
    if (const int rest = static_cast<int>(count - i)) {
        store_first(gate + i, rest, silu(load_first(gate + i, rest)) * load_first(up + i, rest));
    }
}

// y = x / sqrt(mean(x ** 2) + eps) * weight
template <class W>
inline void rms_norm(const float* x, const W* weight, std::int64_t count, float eps, float* y) {
    const std::int64_t whole = count / kLanes * kLanes;
    const int rest = static_cast<int>(count - whole);
    Lanes squares = zero_lanes();
    for (std::int64_t i = 0; i < whole; i += kLanes) squares = fma(load(x + i), load(x + i), squares);
    if (rest) squares = fma(load_first(x + whole, rest), load_first(x + whole, rest), squares);
    const Lanes scale = same_lanes(1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(count) + eps));
    for (std::int64_t i = 0; i < whole; i += kLanes) store(y + i, load(x + i) * scale * load(weight + i));
    if (rest) store_first(y + whole, rest, load_first(x + whole, rest) * scale * load_first(weight + whole, rest));
}

// Rotates each pair (x[2i], x[2i + 1]) of a head by its angle; `half` pairs.
inline void rotate(const float* x, const float* cos, const float* sin, std::int64_t half, float* y) {
    for (std::int64_t i = 0; i < half; ++i) {
        const float even = x[2 * i], odd = x[2 * i + 1];
        y[2 * i] = even * cos[i] - odd * sin[i];
        y[2 * i + 1] = even * sin[i] + odd * cos[i];
    }
}

template <class Number>
inline void convert(const float* x, std::int64_t count, Number* y) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(y + i, load(x + i));
    if (const int rest = static_cast<int>(count - i)) store_first(y + i, rest, load_first(x + i, rest));
}

}  // namespace
}  // namespace mixtralkit
