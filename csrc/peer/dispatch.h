// Tokens to the ranks that hold their experts. A token goes to a rank once, however many of its experts are there.
//
// A cell is the token's row and, behind it, for each of its K choices the expert's number on the receiving rank (-1
// where it is elsewhere, int32) and its weight (float32).
#pragma once

#include "peer/exchange.h"

namespace mixtralkit::peer {

// What came to this rank and where it lies, as `combine` needs it. In one array of int32: how many tokens came from
// each rank [W]; then, in the order of the ranks and of their tokens, the places of a token's K rows among the sorted
// rows (-1: elsewhere) [A, K]; and their weights (float32) [A, K].
class Arrivals {
  public:
    static int64_t length(int64_t ranks, int64_t tokens, int64_t top_k) { return ranks + 2 * tokens * top_k; }

    Arrivals(int32_t* numbers, int64_t ranks, int64_t top_k) : numbers_(numbers), ranks_(ranks), top_k_(top_k) {}

    int32_t& count(int64_t rank) const { return numbers_[rank]; }
    // The number of the first token of `rank`; of all tokens for rank W.
    int64_t first(int64_t rank) const {
        int64_t before = 0;
        for (int64_t earlier = 0; earlier < rank; ++earlier) before += numbers_[earlier];
        return before;
    }
    int32_t* places(int64_t token) const { return numbers_ + ranks_ + token * top_k_; }
    float* weights(int64_t token) const { return reinterpret_cast<float*>(places(first(ranks_) + token)); }

  private:
    int32_t* numbers_;
    int64_t ranks_, top_k_;
};

class Dispatch : public Exchange {
  public:
    // `rows` [T, row_bytes] and `weights` [T, K] are this rank's; `head` tells of rows without cells and experts.
    Dispatch(const Slabs& slabs, State& state, const Head& head, const Routing& routing, const std::byte* rows,
             int64_t row_bytes, const float* weights)
        : Dispatch(slabs, state, head, routing, rows, row_bytes, weights, ByRank::tokens(routing, state.ranks())) {}

    // Post, and wait until it is known what comes. False when paused or in disagreement.
    bool meet() {
        return Exchange::meet([this](int64_t peer, int64_t index, std::byte* to) { write(peer, index, to); });
    }

    // After `meet`: what comes.
    int64_t tokens_from(int64_t rank) const { return rank == self_ ? cells_[rank] : inbox(rank).head().cells; }
    int64_t arriving_tokens() const {
        int64_t tokens = 0;
        for (int64_t rank = 0; rank < ranks_; ++rank) tokens += tokens_from(rank);
        return tokens;
    }
    int64_t arriving_rows() const {
        int64_t rows = 0;
        for (int64_t rank = 0; rank < ranks_; ++rank)
            for (int64_t index = 0; index < experts_[self_]; ++index) rows += counts_from(rank)[index];
        return rows;
    }

    // Move the rows into `sorted` [R, row_bytes], by expert, source and token. False when paused.
    bool move(std::byte* sorted, const Arrivals& arrivals) {
        if (state_.stage() == kMet) place(sorted, arrivals);
        firsts_.resize(ranks_);
        for (int64_t rank = 0; rank < ranks_; ++rank) firsts_[rank] = arrivals.first(rank);
        float* const weights = arrivals.weights(0);
        const bool all =
            Exchange::move([this](int64_t peer, int64_t index, std::byte* to) { write(peer, index, to); },
                           [&](int64_t peer, int64_t index, const std::byte* cell) {
                               const auto* experts = reinterpret_cast<const int32_t*>(cell + record_at(row_bytes_));
                               const int64_t token = firsts_[peer] + index;
                               take(peer, cell, experts, arrivals.places(token), sorted);
                               std::memcpy(weights + token * top_k_, experts + top_k_, top_k_ * sizeof(float));
                           });
        if (all) state_.finish();
        return all;
    }

  private:
    Dispatch(const Slabs& slabs, State& state, const Head& head, const Routing& routing, const std::byte* rows,
             int64_t row_bytes, const float* weights, ByRank by_rank)
        : Exchange(slabs, state, head, cell_bytes(row_bytes, routing.top_k), cell_counts(by_rank, state.ranks()),
                   {state.experts_at(), state.experts_at() + state.ranks()}),
          routing_(routing), rows_(rows), weights_(weights), row_bytes_(row_bytes), top_k_(routing.top_k),
          by_rank_(std::move(by_rank)), rows_by_expert_(rows_by_expert(routing)), own_counts_(experts_[self_]) {
        write_counts(self_, own_counts_.data());
    }

    static int64_t record_at(int64_t row_bytes) { return round_up(row_bytes, sizeof(int32_t)); }
    static int64_t cell_bytes(int64_t row_bytes, int64_t top_k) {
        return round_up(record_at(row_bytes) + top_k * int64_t(sizeof(int32_t) + sizeof(float)), kLine);
    }

    // An expert that the peer holds may get its rows elsewhere.
    void write_counts(int64_t peer, int32_t* counts) const override {
        std::fill_n(counts, experts_[peer], 0);
        for (int64_t expert = 0; expert < routing_.experts; ++expert)
            if (routing_.rank_of[expert] == peer) counts[routing_.index_of[expert]] = rows_by_expert_[expert];
    }

    void write(int64_t peer, int64_t index, std::byte* to) const {
        const int64_t token = by_rank_.item(peer, index);
        std::memcpy(to, rows_ + token * row_bytes_, row_bytes_);
        auto* experts = reinterpret_cast<int32_t*>(to + record_at(row_bytes_));
        write_experts(peer, token, experts);
        std::memcpy(experts + top_k_, weights_ + token * top_k_, top_k_ * sizeof(float));
    }

    void write_experts(int64_t rank, int64_t token, int32_t* experts) const {
        for (int64_t k = 0; k < top_k_; ++k) {
            const int64_t expert = routing_.expert_ids[token * top_k_ + k];
            experts[k] = routing_.rank_of[expert] == rank ? int32_t(routing_.index_of[expert]) : -1;
        }
    }

    const int32_t* counts_from(int64_t rank) const { return rank == self_ ? own_counts_.data() : inbox(rank).counts(); }

    // Give every expert and source its range of places, note who sends how much, and put this rank's own rows there.
    void place(std::byte* sorted, const Arrivals& arrivals) {
        int64_t next = 0;
        for (int64_t index = 0; index < experts_[self_]; ++index) {
            const int64_t begin = next;
            for (int64_t rank = 0; rank < ranks_; ++rank) {
                state_.next_places(rank)[index] = next;
                next += counts_from(rank)[index];
            }
            state_.counts()[index] = next - begin;
        }
        for (int64_t rank = 0; rank < ranks_; ++rank) arrivals.count(rank) = int32_t(tokens_from(rank));
        std::vector<int32_t> experts(top_k_);
        const int64_t first = arrivals.first(self_);
        for (int64_t index = 0; index < cells_[self_]; ++index) {
            const int64_t token = by_rank_.item(self_, index);
            write_experts(self_, token, experts.data());
            take(self_, rows_ + token * row_bytes_, experts.data(), arrivals.places(first + index), sorted);
            std::memcpy(arrivals.weights(first + index), weights_ + token * top_k_, top_k_ * sizeof(float));
        }
        state_.stage() = kOwnRowsDone;
    }

    // Copy a row to the next places of its experts and note these.
    void take(int64_t rank, const std::byte* row, const int32_t* experts, int32_t* places, std::byte* sorted) {
        for (int64_t k = 0; k < top_k_; ++k) {
            places[k] = experts[k] < 0 ? -1 : int32_t(state_.next_places(rank)[experts[k]]++);
            if (places[k] >= 0) std::memcpy(sorted + places[k] * row_bytes_, row, row_bytes_);
        }
    }

    const Routing routing_;
    const std::byte* const rows_;
    const float* const weights_;
    const int64_t row_bytes_, top_k_;
    const ByRank by_rank_;
    const std::vector<int32_t> rows_by_expert_;
    std::vector<int32_t> own_counts_;
    std::vector<int64_t> firsts_;
};

}  // namespace mixtralkit::peer
