// A team of one thread on the host: how the protocol runs between processes that share memory, in tests.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace mixtralkit::split {

class HostTeam {
  public:
    HostTeam(int64_t block, int64_t blocks, std::vector<int32_t>& scratch)
        : block_(block), blocks_(blocks), scratch_(scratch) {}

    int64_t block() const { return block_; }
    int64_t blocks() const { return blocks_; }
    int64_t thread() const { return 0; }
    int64_t threads() const { return 1; }

    bool all(bool holds) const { return holds; }
    bool any(bool holds) const { return holds; }
    int32_t count(bool holds) const { return holds ? 1 : 0; }
    float max(float value) const { return value; }
    void sync() const {}

    // Room for `kScratch` numbers that the threads of the team share.
    int32_t* scratch() const { return scratch_.data(); }

    // Each number becomes the sum of those before it.
    void exclusive_scan(int32_t* numbers, int64_t count) const {
        int32_t sum = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int32_t number = numbers[i];
            numbers[i] = sum;
            sum += number;
        }
    }

    // Whether all other teams of the step have come here before, so that what they did is seen; `done` starts at 0.
    bool last(int64_t* done) const {
        if (++*done < blocks_) return false;
        *done = 0;
        return true;
    }

    // The words that ranks share.
    static int64_t load_acquire(int64_t* word) { return std::atomic_ref(*word).load(std::memory_order_acquire); }
    static void store_release(int64_t* word, int64_t value) {
        std::atomic_ref(*word).store(value, std::memory_order_release);
    }
    // A word of this rank's, which only its own teams look at: false for the first that comes.
    static bool test_and_set(int64_t* word) { return std::atomic_ref(*word).exchange(1) != 0; }
    static int64_t load(int64_t* word) { return std::atomic_ref(*word).load(std::memory_order_relaxed); }

    static int64_t now_ns() {
        return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    static void relax() { std::this_thread::yield(); }

  private:
    int64_t block_, blocks_;
    std::vector<int32_t>& scratch_;
};

}  // namespace mixtralkit::split
