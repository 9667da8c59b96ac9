// The protocol of csrc/split with threads as ranks, for ThreadSanitizer: every rank sends random numbers of tokens to
// random experts, two dispatches or two combines being under way at once, and checks every row that comes.
//
//     split_threads RANKS ROUNDS
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "split/combine_receive.h"
#include "split/combine_send.h"
#include "split/dispatch_send.h"
#include "split/host_team.h"

using namespace mixtralkit::split;

namespace {

constexpr int64_t kExpertsEach = 2, kTopK = 2, kWidth = 8, kRegion = 4096, kTeams = 3, kTokens = 9, kFloat32 = 6;
constexpr int64_t kTwenty = 20'000'000'000;  // nanoseconds to wait

void demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::abort();
}

template <class Step>
void run(const Step& step) {
    std::vector<int32_t> scratch(kScratch);
    for (int64_t team = 0; team < kTeams; ++team) step(HostTeam(team, kTeams, scratch));
}

// One rank's share of an exchange: tokens that say whose they are, and where they go.
struct Batch {
    Batch(int64_t rank, int64_t number, int64_t experts) {
        std::mt19937 random(unsigned(number * 100 + rank));
        tokens = int64_t(random() % (kTokens + 1));
        for (int64_t token = 0; token < tokens; ++token) {
            const int64_t first = int64_t(random() % experts), step = 1 + int64_t(random() % (experts - 1));
            expert_ids.insert(expert_ids.end(), {first, (first + step) % experts});
            rows.insert(rows.end(), kWidth, value(rank, number, token));
        }
    }
    static float value(int64_t rank, int64_t number, int64_t token) {
        return float((rank * 1024 + number % 1024) * 16 + token);
    }

    int64_t tokens;
    std::vector<int64_t> expert_ids;
    std::vector<float> rows;
};

class Rank {
    // What came with a dispatch.
    struct Arrival {
        explicit Arrival(const Rank& rank)
            : rows(rank.room_ * kWidth), origins(rank.room_), counts(kExpertsEach),
              told((1 + kExpertsEach) * rank.at_.slabs.ranks) {}
        std::vector<float> rows;
        std::vector<int32_t> origins;
        std::vector<int64_t> counts, told;
    };

  public:
    Rank(const Slabs& slabs, int64_t rank)
        : experts_(slabs.ranks * kExpertsEach), room_(slabs.ranks * kTokens * kTopK) {
        at_ = {slabs, rank, kTwenty, own_.data(), report_.data()};
        shape_ = {experts_, kWidth, sizeof(float), kFloat32, kTopK, 0, 0};
        shape_.capacity = shape_.capacity_within(slabs.rows_bytes, slabs.results_bytes);
        demand(shape_.capacity >= kTokens, "a batch fits");
        for (int64_t expert = 0; expert < experts_; ++expert) {
            rank_of_.push_back(int32_t(expert / kExpertsEach));
            index_of_.push_back(int32_t(expert % kExpertsEach));
        }
        for (int64_t index = 0; index < kExpertsEach; ++index) mine_.push_back(int32_t(rank * kExpertsEach + index));
    }

    // Two dispatches, twice, and two combines, twice: nothing else than their own words may keep two of a kind apart.
    void round(int64_t number) {
        std::array<Arrival, 2> arrivals{Arrival(*this), Arrival(*this)};
        for (int64_t first : {number, number + 2}) dispatch(first, arrivals);
        for (float change : {0.5f, 1.0f}) combine(number + 2, arrivals, change);
        demand(own_[kFailed] == 0, "nobody gave up");
    }

  private:
    void dispatch(int64_t number, std::array<Arrival, 2>& arrivals) {
        const std::array<Batch, 2> batches = batches_of(number);
        std::array<int64_t, 2> tickets{};
        for (int i : {0, 1}) send(batches[i], &tickets[i]);
        for (int i : {0, 1}) receive(arrivals[i], tickets[i], number + i);
    }

    void combine(int64_t number, std::array<Arrival, 2>& arrivals, float change) {
        const std::array<Batch, 2> batches = batches_of(number);
        std::array<int64_t, 2> tickets{};
        for (Arrival& arrival : arrivals)
            for (float& value : arrival.rows) value += 0.5f;
        for (int i : {0, 1}) send_back(arrivals[i], &tickets[i]);
        for (int i : {0, 1}) receive_back(batches[i], tickets[i], change);
    }

    std::array<Batch, 2> batches_of(int64_t number) const {
        return {Batch(at_.rank, number, experts_), Batch(at_.rank, number + 1, experts_)};
    }

    void send(const Batch& batch, int64_t* ticket) {
        run(DispatchSend{at_,
                         shape_,
                         {rank_of_.data(), index_of_.data()},
                         reinterpret_cast<const std::byte*>(batch.rows.data()),
                         batch.expert_ids.data(),
                         batch.tokens,
                         batch.tokens,
                         ticket});
    }

    void receive(Arrival& arrival, int64_t ticket, int64_t number) {
        run(DispatchReceive{at_, shape_, mine_.data(), kExpertsEach, &ticket, -1, room_,
                            reinterpret_cast<std::byte*>(arrival.rows.data()), arrival.origins.data(),
                            arrival.counts.data(), arrival.told.data()});
        int64_t row = 0;
        for (int64_t index = 0; index < kExpertsEach; ++index)
            for (int64_t source = 0; source < at_.slabs.ranks; ++source)
                row = check_rows(arrival, row, source, number, mine_[index]);
    }

    // The rows of one source for one expert, in the order of its tokens; returns the row behind them.
    int64_t check_rows(const Arrival& arrival, int64_t row, int64_t source, int64_t number, int64_t expert) const {
        const Batch sent(source, number, experts_);
        for (int64_t pair = 0; pair < sent.tokens * kTopK; ++pair) {
            if (sent.expert_ids[pair] != expert) continue;
            for (int64_t i = 0; i < kWidth; ++i)
                demand(arrival.rows[row * kWidth + i] == Batch::value(source, number, pair / kTopK),
                       "a row is its token");
            demand(arrival.origins[row++] == origin_of(source, pair), "a row knows where it came from");
        }
        return row;
    }

    void send_back(const Arrival& arrival, int64_t* ticket) {
        run(CombineSend{at_, shape_, reinterpret_cast<const std::byte*>(arrival.rows.data()), arrival.origins.data(),
                        arrival.counts.data(), kExpertsEach, ticket});
    }

    void receive_back(const Batch& batch, int64_t ticket, float change) {
        const std::vector<float> weights(batch.tokens * kTopK, 0.5f);
        std::vector<float> out(batch.tokens * kWidth);
        run(CombineReceive{at_, shape_, &ticket, batch.tokens, weights.data(),
                           reinterpret_cast<std::byte*>(out.data())});
        for (size_t i = 0; i < out.size(); ++i) demand(out[i] == batch.rows[i] + change, "a token has its results");
    }

    int64_t experts_, room_;
    std::array<int64_t, kOwnNumbers> own_{};
    std::array<int64_t, kReportNumbers> report_{};
    std::vector<int32_t> rank_of_, index_of_, mine_;
    Exchange at_;
    Shape shape_;
};

}  // namespace

int main(int, char** arguments) {
    const int64_t ranks = std::atoll(arguments[1]), rounds = std::atoll(arguments[2]);
    const int64_t bytes = Slabs::bytes_for(ranks, kRegion, kRegion);
    Slabs slabs{{}, ranks, kRegion, kRegion};
    std::vector<std::unique_ptr<std::byte[]>> memory;
    for (int64_t rank = 0; rank < ranks; ++rank) {
        memory.emplace_back(new std::byte[size_t(bytes)]());
        slabs.slab[rank] = memory.back().get();
    }
    std::vector<std::thread> threads;
    for (int64_t rank = 0; rank < ranks; ++rank)
        threads.emplace_back([&slabs, rank, rounds] {
            Rank self(slabs, rank);
            for (int64_t number = 0; number < 4 * rounds; number += 4) self.round(number);
        });
    for (std::thread& thread : threads) thread.join();
    std::puts("well");
}
