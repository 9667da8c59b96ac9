// The operators for GPUs: the steps of the split exchange, and the memory that other processes can open.
#include <string>

#include <torch/csrc/stable/library.h>

#include "cuda/split_steps.h"
#include "split/operators.h"

namespace mixtralkit::split {
namespace {

void check(cudaError_t error, const char* what) {
    STD_TORCH_CHECK(error == cudaSuccess, what, ": ", cudaGetErrorString(error));
}

struct DeviceRun {
    template <class Step>
    static void run(const Step& step, int64_t teams, int64_t stream) {
        check(launch(step, teams, reinterpret_cast<cudaStream_t>(stream)), "a step of the exchange was not launched");
    }
};

// device_memory(int nbytes) -> int: zeros on the current device, at the address returned. It is
// kept until the process ends: a rank cannot know when the others have stopped writing.
int64_t device_memory(int64_t nbytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, size_t(nbytes)), "no memory for the exchange of rows");
    check(cudaMemset(memory, 0, size_t(nbytes)), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaMemset");
    return reinterpret_cast<int64_t>(memory);
}

constexpr char kDigits[] = "0123456789abcdef";

// device_memory_handle(int address) -> str: what another process opens the memory with, in hexadecimal digits.
std::string device_memory_handle(int64_t address) {
    cudaIpcMemHandle_t handle;
    check(cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(address)), "cudaIpcGetMemHandle");
    std::string text;
    for (const char byte : handle.reserved) text += {kDigits[(byte >> 4) & 15], kDigits[byte & 15]};
    return text;
}

// device_memory_open(str handle) -> int: the address of another process's memory here.
int64_t device_memory_open(std::string text) {
    cudaIpcMemHandle_t handle;
    STD_TORCH_CHECK(text.size() == 2 * sizeof handle.reserved, "a handle has ", 2 * sizeof handle.reserved,
                    " digits, not ", text.size());
    for (size_t i = 0; i < sizeof handle.reserved; ++i)
        handle.reserved[i] = char(std::stoi(text.substr(2 * i, 2), nullptr, 16));
    void* memory = nullptr;
    check(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess), "cudaIpcOpenMemHandle");
    return reinterpret_cast<int64_t>(memory);
}

}  // namespace
}  // namespace mixtralkit::split

STABLE_TORCH_LIBRARY_FRAGMENT(mixtralkit, m) {
    m.def("device_memory(int nbytes) -> int");
    m.def("device_memory_handle(int address) -> str");
    m.def("device_memory_open(str handle) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CUDA, m) { mixtralkit::split::register_steps<mixtralkit::split::DeviceRun>(m); }

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("device_memory", TORCH_BOX(&mixtralkit::split::device_memory));
    m.impl("device_memory_handle", TORCH_BOX(&mixtralkit::split::device_memory_handle));
    m.impl("device_memory_open", TORCH_BOX(&mixtralkit::split::device_memory_open));
}
