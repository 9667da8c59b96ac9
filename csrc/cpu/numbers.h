// The half-precision numbers of weights and caches, as their bits.
#pragma once

#include <cstdint>

namespace mixtralkit {

struct Bf16 {
    std::uint16_t bits;
};

struct Fp16 {
    std::uint16_t bits;
};

}  // namespace mixtralkit
