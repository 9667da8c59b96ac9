// Results back to the ranks whose tokens they belong to.
//
// Merged, a rank sends one row a token: the weighted sum of what its experts have for it (float32, K <= 2). Two
// numbers add up to the same in either order, so the sum over ranks does not depend on who holds what. Apart, each
// result is sent as it is and keeps its place [T * K] at home, where the caller adds them in the order of the top-k.
#pragma once

#include "peer/dispatch.h"
#include "peer/weighted_rows.h"

namespace mixtralkit::peer {

class Combine : public Exchange {
  public:
    // `rows` [R, row_bytes] are the results of the rows that `arrivals` tells of. Unweighted, all weights count as 1.
    Combine(const Slabs& slabs, State& state, const Head& head, const Routing& routing, const std::byte* rows,
            int64_t row_bytes, const Arrivals& arrivals, bool merged, bool weighted)
        : Combine(slabs, state, head, routing, rows, row_bytes, arrivals, merged, weighted,
                  departures(arrivals, state.ranks(), routing.top_k, merged)) {}

    // Merged, `out` is [T, row_bytes], else [T * K, row_bytes]. False when paused or in disagreement.
    bool move(std::byte* out) {
        const auto send = [this](int64_t peer, int64_t index, std::byte* to) { write(peer, index, to); };
        if (!meet(send)) return false;
        find_begun();
        if (state_.stage() == kMet) take_own(out);
        const bool all = Exchange::move(
            send, [&](int64_t peer, int64_t index, const std::byte* cell) { take(peer, index, cell, out); });
        if (all) state_.finish();
        return all;
    }

  private:
    // For each rank what goes there: numbers of arrived tokens (merged) or places of rows.
    using Departures = std::vector<std::vector<int64_t>>;

    Combine(const Slabs& slabs, State& state, const Head& head, const Routing& routing, const std::byte* rows,
            int64_t row_bytes, const Arrivals& arrivals, bool merged, bool weighted, Departures departures)
        : Exchange(slabs, state, head, round_up(row_bytes, kLine), sizes(departures),
                   std::vector<int64_t>(state.ranks())),
          routing_(routing), rows_(rows), row_bytes_(row_bytes), arrivals_(arrivals), merged_(merged),
          weighted_(weighted), departures_(std::move(departures)),
          home_(merged ? ByRank::tokens(routing, ranks_) : ByRank::pairs(routing, ranks_)) {}

    static Departures departures(const Arrivals& arrivals, int64_t ranks, int64_t top_k, bool merged) {
        Departures found(ranks);
        int64_t token = 0;
        for (int64_t rank = 0; rank < ranks; ++rank)
            for (const int64_t end = token + arrivals.count(rank); token < end; ++token) {
                if (merged) found[rank].push_back(token);
                for (int64_t k = 0; k < top_k && !merged; ++k)
                    if (arrivals.places(token)[k] >= 0) found[rank].push_back(arrivals.places(token)[k]);
            }
        return found;
    }
    static std::vector<int64_t> sizes(const Departures& departures) {
        std::vector<int64_t> sizes;
        for (const auto& to_rank : departures) sizes.push_back(int64_t(to_rank.size()));
        return sizes;
    }

    void write_counts(int64_t, int32_t*) const override {}

    void write(int64_t peer, int64_t index, std::byte* to) const {
        const int64_t item = departures_[peer][index];
        if (merged_)
            sum(item, reinterpret_cast<float*>(to));
        else
            std::memcpy(to, rows_ + item * row_bytes_, row_bytes_);
    }

    // The weighted sum of the results for an arrived token, in the order of its top-k.
    void sum(int64_t token, float* to) const {
        const float* rows[2];
        float weights[2];
        int64_t found = 0;
        for (int64_t k = 0; k < routing_.top_k; ++k) {
            const int64_t place = arrivals_.places(token)[k];
            if (place < 0) continue;
            rows[found] = reinterpret_cast<const float*>(rows_ + place * row_bytes_);
            weights[found++] = weighted_ ? arrivals_.weights(token)[k] : 1.0f;
        }
        if (found == 2)
            weigh_two(to, rows[0], weights[0], rows[1], weights[1], width());
        else
            weigh(to, rows[0], weights[0], width());
    }

    void take(int64_t peer, int64_t index, const std::byte* cell, std::byte* out) {
        const int64_t item = home_.item(peer, index);
        std::byte* const to = out + item * row_bytes_;
        if (merged_ && begun_[item])
            add(reinterpret_cast<float*>(to), reinterpret_cast<const float*>(cell), width());
        else
            std::memcpy(to, cell, row_bytes_);
        if (merged_) begun_[item] = true;
    }

    // What this rank's own experts have for its own tokens; it comes in the order in which the tokens are at home.
    void take_own(std::byte* out) {
        for (int64_t index = 0; index < cells_[self_]; ++index) {
            const int64_t item = home_.item(self_, index);
            write(self_, index, out + item * row_bytes_);
            if (merged_) begun_[item] = true;
        }
        state_.stage() = kOwnRowsDone;
    }

    // Which tokens have got a first part, in this call or before a pause.
    void find_begun() {
        begun_.assign(merged_ ? routing_.tokens : 0, false);
        for (int64_t rank = 0; rank < ranks_ && merged_; ++rank) {
            const int64_t own = state_.stage() == kOwnRowsDone ? cells_[self_] : 0;
            const int64_t taken = rank == self_ ? own : state_.taken(rank);
            for (int64_t index = 0; index < taken; ++index) begun_[home_.item(rank, index)] = true;
        }
    }

    int64_t width() const { return row_bytes_ / int64_t(sizeof(float)); }

    const Routing routing_;
    const std::byte* const rows_;
    const int64_t row_bytes_;
    const Arrivals arrivals_;
    const bool merged_, weighted_;
    const Departures departures_;
    const ByRank home_;
    std::vector<bool> begun_;
};

}  // namespace mixtralkit::peer
