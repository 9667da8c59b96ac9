// The kernels for any processor.
#include "cpu/lanes_portable.h"
// After the lanes:
#include "cpu/kernel_table.h"

namespace mixtralkit {

const Kernels kPortableKernels = make_table<Floats<Bf16>>();

}  // namespace mixtralkit
