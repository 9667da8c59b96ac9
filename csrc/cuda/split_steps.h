// The steps of the split exchange on the device, for ops_cuda.cpp: each is one kernel, and waits for nothing on the
// host.
#pragma once

#include <cuda_runtime_api.h>

#include "split/combine_receive.h"
#include "split/combine_send.h"
#include "split/dispatch_send.h"

namespace mixtralkit::split {

// Launch a step of `teams` teams on the stream; what the launch says.
cudaError_t launch(const DispatchSend& step, int64_t teams, cudaStream_t stream);
cudaError_t launch(const DispatchReceive& step, int64_t teams, cudaStream_t stream);
cudaError_t launch(const CombineSend& step, int64_t teams, cudaStream_t stream);
cudaError_t launch(const CombineReceive& step, int64_t teams, cudaStream_t stream);

}  // namespace mixtralkit::split
