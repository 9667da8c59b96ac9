// Which tokens go to which rank: the same on the way out and on the way back, so both sides of home compute it.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "peer/layout.h"

namespace mixtralkit::peer {

// A gate's answer for T tokens, and where rows of expert e go: to `rank_of[e]`, where it is number `index_of[e]`.
struct Routing {
    const int64_t* expert_ids;  // [T, K]
    int64_t tokens, top_k;
    const int64_t *rank_of, *index_of;  // [E]
    int64_t experts;

    int64_t rank_at(int64_t pair) const { return rank_of[expert_ids[pair]]; }

    void check() const {
        for (int64_t pair = 0; pair < tokens * top_k; ++pair)
            if (expert_ids[pair] < 0 || expert_ids[pair] >= experts)
                throw std::out_of_range("there is no expert " + std::to_string(expert_ids[pair]) + " among " +
                                        std::to_string(experts));
    }

    // Whether the token of `pair` has no earlier pair on the same rank.
    bool first_on_rank(int64_t pair) const {
        for (int64_t earlier = pair - pair % top_k; earlier < pair; ++earlier)
            if (rank_at(earlier) == rank_at(pair)) return false;
        return true;
    }
};

// Items (tokens, or pairs of token and k) by the rank they concern, ascending.
class ByRank {
  public:
    // The tokens with an expert on a rank.
    static ByRank tokens(const Routing& routing, int64_t ranks) { return {routing, ranks, true}; }
    // The pairs, token * K + k, whose expert is on a rank.
    static ByRank pairs(const Routing& routing, int64_t ranks) { return {routing, ranks, false}; }

    int64_t count(int64_t rank) const { return first_[rank + 1] - first_[rank]; }
    int64_t item(int64_t rank, int64_t index) const { return items_[first_[rank] + index]; }

  private:
    ByRank(const Routing& routing, int64_t ranks, bool once) : first_(ranks + 1) {
        const int64_t pairs = routing.tokens * routing.top_k;
        std::vector<int64_t> next(ranks);
        for (int64_t pair = 0; pair < pairs; ++pair)
            if (!once || routing.first_on_rank(pair)) ++first_[routing.rank_at(pair) + 1];
        for (int64_t rank = 0; rank < ranks; ++rank) {
            next[rank] = first_[rank];
            first_[rank + 1] += first_[rank];
        }
        items_.resize(first_[ranks]);
        for (int64_t pair = 0; pair < pairs; ++pair)
            if (!once || routing.first_on_rank(pair))
                items_[next[routing.rank_at(pair)]++] = once ? pair / routing.top_k : pair;
    }

    std::vector<int64_t> first_, items_;
};

// The number of items for each rank.
inline std::vector<int64_t> cell_counts(const ByRank& by_rank, int64_t ranks) {
    std::vector<int64_t> counts(ranks);
    for (int64_t rank = 0; rank < ranks; ++rank) counts[rank] = by_rank.count(rank);
    return counts;
}

// How many rows each expert gets.
inline std::vector<int32_t> rows_by_expert(const Routing& routing) {
    std::vector<int32_t> rows(routing.experts);
    for (int64_t pair = 0; pair < routing.tokens * routing.top_k; ++pair) ++rows[routing.expert_ids[pair]];
    return rows;
}

}  // namespace mixtralkit::peer
