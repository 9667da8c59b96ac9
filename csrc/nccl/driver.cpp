#include "nccl/driver.h"

#include <dlfcn.h>

#include <torch/headeronly/util/Exception.h>

// In two steps, so that what is made a string is the name as cuda.h has it.
#define MIXTRALKIT_QUOTED(name) #name
#define MIXTRALKIT_SYMBOL(name) MIXTRALKIT_QUOTED(name)

namespace mixtralkit::nccl {
namespace {

Driver look_up() {
    void* handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    STD_TORCH_CHECK(handle != nullptr, "there is no CUDA driver: ", dlerror());
    Driver found;
#define MIXTRALKIT_LOOK_UP(name)                                                                                       \
    found.name = reinterpret_cast<decltype(found.name)>(dlsym(handle, MIXTRALKIT_SYMBOL(name)));                       \
    STD_TORCH_CHECK(found.name != nullptr, "the CUDA driver has no function ", MIXTRALKIT_SYMBOL(name));
    MIXTRALKIT_DRIVER_FUNCTIONS(MIXTRALKIT_LOOK_UP)
#undef MIXTRALKIT_LOOK_UP
    return found;
}

}  // namespace

void Driver::check(CUresult result, const char* doing) const {
    if (result == CUDA_SUCCESS) return;
    const char* words = nullptr;
    cuGetErrorString(result, &words);
    STD_TORCH_CHECK(false, "CUDA could not ", doing, ": ", words != nullptr ? words : "an unknown error", " (",
                    static_cast<int>(result), ")");
}

const Driver& driver() {
    static const Driver found = look_up();
    return found;
}

}  // namespace mixtralkit::nccl
