// The kernels of the split exchange: the steps of split/, which the host can run too, by teams of threads.
#include "cuda/device_team.cuh"
#include "cuda/split_steps.h"

namespace mixtralkit::split {
namespace {

template <class Step>
__global__ void __launch_bounds__(DeviceTeam::kThreads, 1) run(const __grid_constant__ Step step) {
    __shared__ int32_t scratch[kScratch];
    step(DeviceTeam(scratch));
}

template <class Step>
cudaError_t launch_step(const Step& step, int64_t teams, cudaStream_t stream) {
    run<<<unsigned(teams), DeviceTeam::kThreads, 0, stream>>>(step);
    return cudaGetLastError();
}

}  // namespace

cudaError_t launch(const DispatchSend& step, int64_t teams, cudaStream_t stream) {
    return launch_step(step, teams, stream);
}
cudaError_t launch(const DispatchReceive& step, int64_t teams, cudaStream_t stream) {
    return launch_step(step, teams, stream);
}
cudaError_t launch(const CombineSend& step, int64_t teams, cudaStream_t stream) {
    return launch_step(step, teams, stream);
}
cudaError_t launch(const CombineReceive& step, int64_t teams, cudaStream_t stream) {
    return launch_step(step, teams, stream);
}

}  // namespace mixtralkit::split
