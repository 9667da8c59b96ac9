// Work in pieces, done by torch's threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include <torch/csrc/stable/ops.h>

namespace mixtralkit {

// Calls run(i) for every i below `count`, each once. A thread takes the next piece when it is done with one, in
// ascending order, so that a slow core does not keep the others waiting.
template <class Run>
void each_task(std::int64_t count, const Run& run) {
    const std::int64_t threads = count > 1 ? torch::stable::get_num_threads() : 1;
    std::atomic<std::int64_t> next{0};
    const auto work = [&](std::int64_t, std::int64_t) {
        for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) run(i);
    };
    if (threads == 1) return work(0, 1);
    torch::stable::parallel_for(0, threads, 1, work);
}

// Memory for the time of a call, on a cache line of its own.
class Scratch {
  public:
    explicit Scratch(std::int64_t nbytes)
        : bytes_(std::aligned_alloc(64, static_cast<std::size_t>(nbytes + 127) / 64 * 64)) {
        if (!bytes_) throw std::bad_alloc();
    }
    void* at(std::int64_t offset = 0) const { return static_cast<char*>(bytes_.get()) + offset; }
    float* floats() const { return static_cast<float*>(bytes_.get()); }

  private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::unique_ptr<void, Free> bytes_;
};

constexpr std::int64_t kTokensPerTask = 16;  // where a token's work is small

inline std::int64_t pieces(std::int64_t whole, std::int64_t piece) { return (whole + piece - 1) / piece; }

}  // namespace mixtralkit
