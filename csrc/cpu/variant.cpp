#include "cpu/variant.h"

#include <array>
#include <atomic>

#include <torch/headeronly/util/Exception.h>

namespace mixtralkit {
namespace {

constexpr std::array<const char*, 3> kNames = {"portable", "avx2", "avx512"};

// The instructions that csrc/build.py lets the compiler use in *_avx2.cpp and *_avx512.cpp, but for F16C: no processor
// has AVX2 without it. The operating system is asked too (xgetbv): registers that it does not save do not count.
Variant best_variant() {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Variant::portable;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    return wide ? Variant::avx512 : Variant::avx2;
#else
    return Variant::portable;
#endif
}

std::atomic<Variant>& chosen() {
    static std::atomic<Variant> value{best_variant()};
    return value;
}

}  // namespace

Variant variant() { return chosen().load(std::memory_order_relaxed); }

std::string cpu_variant() { return kNames[static_cast<std::size_t>(variant())]; }

void use_cpu_variant(std::string name) {
    const auto best = static_cast<std::size_t>(best_variant());
    std::string allowed;
    for (std::size_t i = 0; i <= best; ++i) {
        if (name == kNames[i]) return chosen().store(static_cast<Variant>(i), std::memory_order_relaxed);
        allowed += (i == 0 ? "" : ", ") + std::string(kNames[i]);
    }
    STD_TORCH_CHECK(false, "no variant '", name, "' of the kernels on this processor, which has: ", allowed);
}

}  // namespace mixtralkit
