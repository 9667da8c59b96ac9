// A team of all threads of a block.
#pragma once

#include <cuda/atomic>

#include "split/slab.h"

namespace mixtralkit::split {

class DeviceTeam {
  public:
    static constexpr int kThreads = 256;

    __device__ explicit DeviceTeam(int32_t* scratch) : scratch_(scratch) {}

    __device__ int64_t block() const { return blockIdx.x; }
    __device__ int64_t blocks() const { return gridDim.x; }
    __device__ int64_t thread() const { return threadIdx.x; }
    __device__ int64_t threads() const { return kThreads; }

    __device__ bool all(bool holds) const { return __syncthreads_and(holds); }
    __device__ bool any(bool holds) const { return __syncthreads_or(holds); }
    __device__ int32_t count(bool holds) const { return __syncthreads_count(holds); }
    __device__ void sync() const { __syncthreads(); }

    __device__ float max(float value) const {
        __shared__ float of_warps[kThreads / kWarp];
        for (int distance = kWarp / 2; distance > 0; distance /= 2)
            value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
        __syncthreads();  // nobody reads what an earlier call left
        if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
        __syncthreads();
        for (int warp = 0; warp < kThreads / kWarp; ++warp) value = fmaxf(value, of_warps[warp]);
        return value;
    }

    // Room for `kScratch` numbers, in shared memory.
    __device__ int32_t* scratch() const { return scratch_; }

    // Each number, in shared memory, becomes the sum of those before it; the first warp does it.
    __device__ void exclusive_scan(int32_t* numbers, int64_t count) const {
        __syncthreads();
        int32_t before = 0;
        for (int64_t begin = 0; threadIdx.x < kWarp && begin < count; begin += kWarp) {
            const int64_t i = begin + threadIdx.x;
            const int32_t number = i < count ? numbers[i] : 0;
            int32_t sum = number;
            for (int distance = 1; distance < kWarp; distance *= 2) {
                const int32_t other = __shfl_up_sync(kAllLanes, sum, distance);
                if (threadIdx.x >= distance) sum += other;
            }
            if (i < count) numbers[i] = before + sum - number;
            before += __shfl_sync(kAllLanes, sum, kWarp - 1);
        }
        __syncthreads();
    }

    // Whether all other teams of the step have come here before. The fences make what all of them did, in the memory of
    // other devices too, come before whatever the last one says afterwards.
    __device__ bool last(int64_t* done) const {
        __shared__ bool is_last;
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence_system();
            is_last = atomicAdd(reinterpret_cast<unsigned long long*>(done), 1ull) == gridDim.x - 1;
            if (is_last) *done = 0;
            __threadfence_system();
        }
        __syncthreads();
        return is_last;
    }

    // The words that ranks share.
    __device__ static int64_t load_acquire(int64_t* word) { return Shared(*word).load(cuda::memory_order_acquire); }
    __device__ static void store_release(int64_t* word, int64_t value) {
        Shared(*word).store(value, cuda::memory_order_release);
    }
    // A word of this rank's, which only its own teams look at: false for the first that comes.
    __device__ static bool test_and_set(int64_t* word) {
        return atomicExch(reinterpret_cast<unsigned long long*>(word), 1ull) != 0;
    }
    __device__ static int64_t load(int64_t* word) { return Private(*word).load(cuda::memory_order_relaxed); }

    __device__ static int64_t now_ns() {
        int64_t now;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        return now;
    }
    __device__ static void relax() { __nanosleep(100); }

  private:
    using Shared = cuda::atomic_ref<int64_t, cuda::thread_scope_system>;
    using Private = cuda::atomic_ref<int64_t, cuda::thread_scope_device>;
    static constexpr int kWarp = 32;
    static constexpr unsigned kAllLanes = 0xffffffff;

    int32_t* scratch_;
};

}  // namespace mixtralkit::split
