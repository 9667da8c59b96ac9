#include "cpu/kernels.h"

#include "cpu/variant.h"

namespace mixtralkit {

const Kernels& kernels() {
#if defined(__x86_64__)
    if (variant() == Variant::avx512) return kAvx512Kernels;
    if (variant() == Variant::avx2) return kAvx2Kernels;
#endif
    return kPortableKernels;
}

}  // namespace mixtralkit
