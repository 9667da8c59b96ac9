// The kernels for processors with AVX-512, its VNNI and its bfloat16 instructions.
#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from registers that they leave undefined on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "cpu/lanes_avx512.h"
// After the lanes:
#include "cpu/kernel_table.h"

namespace mixtralkit {

const Kernels kAvx512Kernels = make_table<Bf16Pairs>();

}  // namespace mixtralkit

#endif
