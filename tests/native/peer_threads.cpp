// The protocol of csrc/peer with threads as ranks, for ThreadSanitizer: every rank sends random numbers of tokens to
// random experts, checks every row that comes, and gets its own tokens back. Slots have room for a few rows only.
//
//     peer_threads RANKS EXCHANGES SPIN_NS SLICE_NS
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include "peer/combine.h"

using namespace mixtralkit::peer;

namespace {

constexpr int64_t kExpertsEach = 2, kTopK = 2, kWidth = 12, kSlotBytes = 512;
constexpr int64_t kRowBytes = kWidth * int64_t(sizeof(float));

void demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::abort();
}

// One rank's share of an exchange: tokens that say whose they are, and where they go.
struct Tokens {
    Tokens(int64_t rank, int64_t exchange, int64_t experts) {
        std::mt19937 random(unsigned(exchange * 100 + rank));
        count = std::array<int64_t, 4>{0, 1, 3, 40}[random() % 4];
        for (int64_t token = 0; token < count; ++token) {
            const int64_t first = int64_t(random() % experts), step = 1 + int64_t(random() % (experts - 1));
            expert_ids.insert(expert_ids.end(), {first, (first + step) % experts});
            weights.insert(weights.end(), {0.25f, 0.75f});
            for (int64_t i = 0; i < kWidth; ++i) rows.push_back(value(rank, exchange, token, i));
        }
    }
    static float value(int64_t rank, int64_t exchange, int64_t token, int64_t i) {
        return float(((rank * 64 + exchange % 64) * 64 + token) * 16 + i);
    }

    int64_t count;
    std::vector<int64_t> expert_ids;
    std::vector<float> weights, rows;
};

class Rank {
  public:
    Rank(const Slabs& slabs, int64_t rank, int64_t spin_ns, int64_t slice_ns)
        : slabs_(slabs), rank_(rank), experts_(slabs.ranks() * kExpertsEach),
          numbers_(State::length_for(slabs.ranks(), experts_)),
          state_(numbers_.data(), int64_t(numbers_.size())) {
        const int64_t config[] = {rank, slabs.ranks(), kSlotBytes, experts_, spin_ns, slice_ns};
        std::copy(std::begin(config), std::end(config), numbers_.begin() + 6);
        demand(state_.fits(), "the state has the right length");
        std::fill_n(state_.experts_at(), slabs.ranks(), kExpertsEach);
        for (int64_t expert = 0; expert < experts_; ++expert) {
            state_.rank_of()[expert] = expert / kExpertsEach;
            state_.index_of()[expert] = expert % kExpertsEach;
        }
    }

    // There and back. A slice may end at any point: the operators are made anew then, as ops_peer.cpp does.
    void exchange(int64_t number) {
        const Tokens tokens(rank_, number, experts_);
        const Routing routing{tokens.expert_ids.data(), tokens.count,      kTopK,
                              state_.rank_of(),         state_.index_of(), experts_};
        dispatch(tokens, routing);
        check_rows(number);
        combine(tokens, routing);
    }

  private:
    static Head head(Kind kind) { return {kind, kWidth, 6, kTopK, 0, 0, {}}; }

    void dispatch(const Tokens& tokens, const Routing& routing) {
        for (bool done = false; !done;) {
            const bool fresh = state_.stage() < kMet;
            const auto* rows = reinterpret_cast<const std::byte*>(tokens.rows.data());
            Dispatch dispatch(slabs_, state_, head(kDispatch), routing, rows, kRowBytes, tokens.weights.data());
            if (!dispatch.meet()) continue;
            if (fresh) {
                rows_.assign(dispatch.arriving_rows() * kWidth, -1.0f);
                arrivals_.assign(Arrivals::length(slabs_.ranks(), dispatch.arriving_tokens(), kTopK), -1);
            }
            done = dispatch.move(reinterpret_cast<std::byte*>(rows_.data()), arrivals());
        }
    }

    void combine(const Tokens& tokens, const Routing& routing) {
        std::vector<float> out(tokens.rows.size(), -1.0f);
        for (bool done = false; !done;) {
            const auto* rows = reinterpret_cast<const std::byte*>(rows_.data());
            Combine combine(slabs_, state_, head(kCombine), routing, rows, kRowBytes, arrivals(), true, true);
            done = combine.move(reinterpret_cast<std::byte*>(out.data()));
        }
        demand(out == tokens.rows, "weights that add up to 1 give every token back");
    }

    // All rows of all ranks for these experts, by expert, source and token.
    void check_rows(int64_t number) {
        std::vector<float> expected;
        for (int64_t index = 0; index < kExpertsEach; ++index)
            for (int64_t source = 0; source < slabs_.ranks(); ++source) {
                const Tokens theirs(source, number, experts_);
                for (int64_t pair = 0; pair < theirs.count * kTopK; ++pair)
                    if (theirs.expert_ids[pair] == rank_ * kExpertsEach + index)
                        for (int64_t i = 0; i < kWidth; ++i)
                            expected.push_back(Tokens::value(source, number, pair / kTopK, i));
            }
        demand(rows_ == expected, "the rows of this rank's experts have come, in order");
    }

    Arrivals arrivals() { return {arrivals_.data(), slabs_.ranks(), kTopK}; }

    const Slabs slabs_;
    const int64_t rank_, experts_;
    std::vector<int64_t> numbers_;
    State state_;
    std::vector<float> rows_;
    std::vector<int32_t> arrivals_;
};

}  // namespace

int main(int, char** arguments) {
    const int64_t ranks = std::atoll(arguments[1]), exchanges = std::atoll(arguments[2]);
    const int64_t spin_ns = std::atoll(arguments[3]), slice_ns = std::atoll(arguments[4]);
    const size_t bytes = size_t(Slabs::bytes_for(ranks, kSlotBytes));
    const std::unique_ptr<std::byte, decltype(&std::free)> memory(
        static_cast<std::byte*>(std::aligned_alloc(kPage, bytes)), &std::free);
    std::memset(memory.get(), 0, bytes);
    std::vector<std::thread> threads;
    for (int64_t rank = 0; rank < ranks; ++rank)
        threads.emplace_back([&, rank] {
            Rank self({memory.get(), ranks, kSlotBytes}, rank, spin_ns, slice_ns);
            for (int64_t number = 0; number < exchanges; ++number) self.exchange(number);
        });
    for (auto& thread : threads) thread.join();
    std::printf("%lld exchanges between %lld ranks\n", static_cast<long long>(exchanges),
                static_cast<long long>(ranks));
}
