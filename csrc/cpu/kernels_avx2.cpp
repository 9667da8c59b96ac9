// The kernels for processors with AVX2 and FMA.
#if defined(__x86_64__)

#include "cpu/lanes_avx2.h"
// After the lanes:
#include "cpu/kernel_table.h"

namespace mixtralkit {

const Kernels kAvx2Kernels = make_table<Floats<Bf16>>();

}  // namespace mixtralkit

#endif
