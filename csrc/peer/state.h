// What a rank keeps for itself between calls, in an array of numbers that Python owns and reads:
// moe/dispatch/peer_exchange.py has the same places. An exchange that pauses goes on from here.
#pragma once

#include <algorithm>

#include "peer/layout.h"
#include "peer/waiting.h"

namespace mixtralkit::peer {

enum Status : int64_t { kDone = 0, kPaused = 1, kDisagree = 2 };
enum Awaited : int64_t { kBegin = 0, kRest = 1, kRoom = 2 };

class State {
  public:
    State(int64_t* numbers, int64_t length) : numbers_(numbers), length_(length) {}

    // How many numbers a rank needs, which may hold any number of the experts.
    static int64_t length_for(int64_t ranks, int64_t all_experts) {
        return kFixed + 3 * all_experts + ranks * (kBeliefs + 3 + all_experts);
    }
    bool fits() const { return length_ >= kFixed && length_ == length_for(ranks(), all_experts()); }

    int64_t& status() { return numbers_[0]; }
    int64_t& awaited_rank() { return numbers_[1]; }
    int64_t& awaited() { return numbers_[2]; }
    int64_t& bytes_sent() { return numbers_[3]; }  // Python counts them and sets them to 0
    int64_t& exchange() { return numbers_[4]; }    // number of the one that runs, or comes next
    int64_t& stage() { return numbers_[5]; }       // how far it has come; 0 at the beginning
    int64_t rank() const { return numbers_[6]; }
    int64_t ranks() const { return numbers_[7]; }
    int64_t slot_bytes() const { return numbers_[8]; }
    int64_t all_experts() const { return numbers_[9]; }
    Patience patience() const { return {numbers_[10], numbers_[11]}; }

    // By own expert: the rows that came for it in the last dispatch. There is room for all experts.
    int64_t* counts() { return numbers_ + kFixed; }
    // By rank: what it believes a row is (kind, width, dtype, top_k).
    int64_t* beliefs(int64_t rank) { return counts() + all_experts() + rank * kBeliefs; }
    // The routes, which Python may change between two calls. By rank: how many experts it holds. By expert: the rank
    // to which this rank sends its rows, and the expert's number there.
    int64_t* experts_at() { return beliefs(ranks()); }
    int64_t* rank_of() { return experts_at() + ranks(); }
    int64_t* index_of() { return rank_of() + all_experts(); }
    // By rank: cells sent to it, and taken from it.
    int64_t& sent(int64_t rank) { return index_of()[all_experts() + rank]; }
    int64_t& taken(int64_t rank) { return (&sent(ranks()))[rank]; }
    // By own expert: the place of the next row from `rank`.
    int64_t* next_places(int64_t rank) { return &taken(ranks()) + all_experts() * rank; }

    // The exchange is over.
    void finish() {
        status() = kDone;
        ++exchange();
        stage() = 0;
        std::fill_n(&sent(0), 2 * ranks(), 0);
    }

    void pause(Awaited what, int64_t rank) {
        status() = kPaused;
        awaited() = what;
        awaited_rank() = rank;
    }

  private:
    static constexpr int64_t kFixed = 12, kBeliefs = 4;

    int64_t* numbers_;
    int64_t length_;
};

}  // namespace mixtralkit::peer
