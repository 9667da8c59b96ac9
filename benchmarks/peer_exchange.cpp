// How long dispatch + combine of the peer exchange take by themselves, without torch and Python: two threads as ranks,
// each on a core of its own, send each other rows of 8 KB.
//
//     g++ -O3 -std=c++20 -ffp-contract=off -Icsrc benchmarks/peer_exchange.cpp -o peer_exchange -pthread
//     ./peer_exchange
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <sched.h>
#include <thread>

#include "peer/combine.h"

using namespace mixtralkit::peer;

namespace {

constexpr int64_t kRanks = 2, kExperts = 8, kExpertsEach = 4, kWidth = 2048, kSlotBytes = 256 * 1024, kRepeats = 15;
constexpr int64_t kRowBytes = kWidth * int64_t(sizeof(float));

// `tokens` tokens of each rank, whose experts are all on the other rank (top 1) or one here and one there (top 2).
struct Batch {
    int64_t tokens, top_k;
};

void stay_on_core(int64_t core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

// The times of a round trip, in microseconds, as rank `rank` sees them.
std::vector<double> round_trips(const Slabs& slabs, int64_t rank, const Batch& batch, int64_t rounds) {
    stay_on_core(rank);
    std::vector<int64_t> numbers(State::length_for(kRanks, kExperts));
    State state(numbers.data(), int64_t(numbers.size()));
    const int64_t config[] = {rank, kRanks, kSlotBytes, kExperts, 1'000'000, 1'000'000'000};
    std::copy(std::begin(config), std::end(config), numbers.begin() + 6);
    std::fill_n(state.experts_at(), kRanks, kExpertsEach);
    for (int64_t expert = 0; expert < kExperts; ++expert) {
        state.rank_of()[expert] = expert / kExpertsEach;
        state.index_of()[expert] = expert % kExpertsEach;
    }
    const int64_t tokens = batch.tokens, top_k = batch.top_k;
    std::vector<int64_t> expert_ids(tokens * top_k);
    for (int64_t pair = 0; pair < tokens * top_k; ++pair)
        expert_ids[pair] = (rank + 1 + pair % top_k) % kRanks * kExpertsEach + pair / top_k % kExpertsEach;
    const Routing routing{expert_ids.data(), tokens, top_k, state.rank_of(), state.index_of(), kExperts};
    const std::vector<float> weights(tokens * top_k, 1.0f / float(top_k));
    std::vector<std::byte> x(tokens * kRowBytes), out(tokens * kRowBytes), rows(kRanks * tokens * top_k * kRowBytes);
    std::vector<int32_t> numbers_of_arrivals(Arrivals::length(kRanks, kRanks * tokens, top_k));
    const Arrivals arrivals(numbers_of_arrivals.data(), kRanks, top_k);
    std::vector<double> times;
    for (int64_t repeat = 0; repeat < kRepeats; ++repeat) {
        const int64_t started = now_ns();
        for (int64_t round = 0; round < rounds; ++round) {
            Dispatch dispatch(slabs, state, Head{kDispatch, kWidth, 0, top_k, 0, 0, {}}, routing, x.data(), kRowBytes,
                              weights.data());
            while (!dispatch.meet() || !dispatch.move(rows.data(), arrivals)) {
            }
            Combine combine(slabs, state, Head{kCombine, kWidth, 0, top_k, 0, 0, {}}, routing, rows.data(), kRowBytes,
                            arrivals, true, true);
            while (!combine.move(out.data())) {
            }
        }
        times.push_back(double(now_ns() - started) / 1e3 / double(rounds));
    }
    std::sort(times.begin(), times.end());
    return times;
}

void measure(const char* title, const Batch& batch, int64_t rounds) {
    const size_t bytes = size_t(Slabs::bytes_for(kRanks, kSlotBytes));
    auto* const memory = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes));
    std::memset(memory, 0, bytes);
    const Slabs slabs(memory, kRanks, kSlotBytes);
    std::vector<double> times;
    std::thread first([&] { times = round_trips(slabs, 0, batch, rounds); });
    std::thread second([&] { round_trips(slabs, 1, batch, rounds); });
    first.join();
    second.join();
    std::printf("%-38s %8.1f us (%.1f-%.1f)\n", title, times[kRepeats / 2], times.front(), times.back());
    std::free(memory);
}

}  // namespace

int main() {
    measure("no rows", {0, 1}, 1000);
    measure("8 rows, half of them cross", {4, 2}, 1000);
    measure("8 rows, all of them cross", {8, 1}, 1000);
    measure("64 rows, all of them cross", {64, 1}, 100);
    measure("512 rows, all of them cross", {512, 1}, 20);
}
