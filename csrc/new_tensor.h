// New tensors, made without a way through torch's dispatcher, which looks its operators up by name: every call of every
// operator makes some.
#pragma once

#include <cstdint>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

namespace mixtralkit {

// Uninitialised, contiguous and on the CPU; `dtype` is torch's number of it.
template <class... Sizes>
torch::stable::Tensor new_tensor(int32_t dtype, Sizes... sizes) {
    const int64_t shape[] = {sizes...};
    int64_t strides[sizeof...(Sizes)];
    int64_t stride = 1;
    for (auto i = sizeof...(Sizes); i-- > 0; stride *= shape[i]) strides[i] = stride;
    AtenTensorHandle made = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_empty_strided(sizeof...(Sizes), shape, strides, dtype, aoti_torch_device_type_cpu(), 0, &made));
    return torch::stable::Tensor(made);
}

}  // namespace mixtralkit
