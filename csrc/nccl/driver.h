// The functions of CUDA's driver that order streams. The driver is wherever a GPU is, in one version and loaded by
// torch already, while of CUDA's runtime a process may have several.
#pragma once

#include <cuda.h>

// clang-format off
#define MIXTRALKIT_DRIVER_FUNCTIONS(of_each)                                                                           \
    of_each(cuGetErrorString) of_each(cuCtxGetCurrent) of_each(cuCtxPushCurrent) of_each(cuCtxPopCurrent)              \
    of_each(cuCtxGetStreamPriorityRange) of_each(cuStreamCreateWithPriority) of_each(cuStreamDestroy)                  \
    of_each(cuStreamWaitEvent) of_each(cuEventCreate) of_each(cuEventDestroy) of_each(cuEventRecord)                   \
    of_each(cuEventQuery)
// clang-format on

namespace mixtralkit::nccl {

struct Driver {
// cuda.h makes some names newer ones (cuEventDestroy is cuEventDestroy_v2): as members too, and where they are called.
#define MIXTRALKIT_MEMBER(name) decltype(&::name) name;
    MIXTRALKIT_DRIVER_FUNCTIONS(MIXTRALKIT_MEMBER)
#undef MIXTRALKIT_MEMBER

    // Throws, with the driver's words, where `result` is an error of what was `doing`.
    void check(CUresult result, const char* doing) const;
};

// Looked up once a process. Throws where there is no driver.
const Driver& driver();

}  // namespace mixtralkit::nccl
