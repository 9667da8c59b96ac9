// Work in pieces, done by torch's threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>

#include <torch/csrc/stable/ops.h>

namespace mixtralkit {

// Calls run(i) for every i below `count`, each once. A thread takes neighbouring pieces, which memory likes, half its
// share of what is left at a time: many at first and single ones in the end, so that a slow core does not keep the
// others waiting.
// What one of them throws first is thrown here, and the pieces that nobody has begun are left out.
template <class Run>
void each_task(std::int64_t count, const Run& run) {
    const std::int64_t threads = std::min<std::int64_t>(count, torch::stable::get_num_threads());
    if (threads <= 1) {
        for (std::int64_t i = 0; i < count; ++i) run(i);
        return;
    }
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error;
    const auto work = [&](std::int64_t, std::int64_t) {
        try {
            for (std::int64_t begin = next.load(std::memory_order_relaxed); begin < count;) {
                const std::int64_t end = begin + std::max<std::int64_t>(1, (count - begin) / (2 * threads));
                if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
                for (std::int64_t i = begin; i < end; ++i) run(i);
                begin = next.load(std::memory_order_relaxed);
            }
        } catch (...) {
            if (!failed.exchange(true)) error = std::current_exception();
            next.store(count, std::memory_order_relaxed);
        }
    };
    torch::stable::parallel_for(0, threads, 1, work);
    if (error) std::rethrow_exception(error);
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

// Rows that one thread takes together where little is done with each of their elements.
inline std::int64_t rows_per_small_task(std::int64_t width) {
    return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, width));
}

inline std::int64_t pieces(std::int64_t whole, std::int64_t piece) { return (whole + piece - 1) / piece; }

}  // namespace mixtralkit
