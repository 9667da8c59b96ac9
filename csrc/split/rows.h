// Moving a row, and turning it into 8 bits and back: one team does it together.
#pragma once

#include <math.h>

#include "split/numbers.h"
#include "split/slab.h"

namespace mixtralkit::split {

struct alignas(kUnit) Unit {
    uint32_t words[kUnit / sizeof(uint32_t)];
};

MIXTRALKIT_BOTH bool aligned(const std::byte* place) { return reinterpret_cast<uintptr_t>(place) % kUnit == 0; }

template <class Piece, class Team>
MIXTRALKIT_BOTH void copy_pieces(const Team& team, std::byte* to, const std::byte* from, int64_t bytes) {
    const int64_t pieces = bytes / int64_t(sizeof(Piece));
    for (int64_t i = team.thread(); i < pieces; i += team.threads())
        reinterpret_cast<Piece*>(to)[i] = reinterpret_cast<const Piece*>(from)[i];
}

template <class Team>
MIXTRALKIT_BOTH void copy_row(const Team& team, std::byte* to, const std::byte* from, int64_t bytes) {
    if (aligned(to) && aligned(from) && bytes % kUnit == 0)
        copy_pieces<Unit>(team, to, from, bytes);
    else
        copy_pieces<uint16_t>(team, to, from, bytes);  // every number has 2 bytes at least
}

// Every number of the row becomes the one of 8 bits that is nearest to it, divided by the scale that is returned: with
// it the largest becomes 448.
template <class Number, class Team>
MIXTRALKIT_BOTH float write_fp8(const Team& team, std::byte* to, const std::byte* from, int64_t width) {
    const auto* numbers = reinterpret_cast<const Number*>(from);
    float largest = 0;
    for (int64_t i = team.thread(); i < width; i += team.threads()) {
        const float number = numbers[i].get();
        largest = fmaxf(largest, fabsf(number));
    }
    largest = team.max(largest);
    const float scale = largest > 0 ? largest / Float8::kLargest : 1.0f;
    for (int64_t i = team.thread(); i < width; i += team.threads())
        reinterpret_cast<Float8*>(to)[i] = Float8::from(numbers[i].get() / scale);
    return scale;
}

template <class Number, class Team>
MIXTRALKIT_BOTH void read_fp8(const Team& team, std::byte* to, const std::byte* from, int64_t width, float scale) {
    for (int64_t i = team.thread(); i < width; i += team.threads())
        reinterpret_cast<Number*>(to)[i] = Number::from(reinterpret_cast<const Float8*>(from)[i].get() * scale);
}

// Call `act` with a number of the kind that torch counts as `dtype`: float16, bfloat16, else float32.
template <class Act>
MIXTRALKIT_BOTH void with_number(int64_t dtype, Act act) {
    if (dtype == 5)
        act(Float16{});
    else if (dtype == 15)
        act(BFloat16{});
    else
        act(Float32{});
}

}  // namespace mixtralkit::split
