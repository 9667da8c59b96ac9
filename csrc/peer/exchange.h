// What dispatch and combine have in common: every rank sends every other one message, and reads theirs.
//
// Sending and reading take turns and never wait for each other, so no two ranks can wait for each other's room.
#pragma once

#include <cstring>

#include "peer/channel.h"
#include "peer/routes.h"
#include "peer/state.h"

namespace mixtralkit::peer {

constexpr int64_t kBatch = 64 * 1024;  // bytes written or read before the other side hears of it

enum Kind : int64_t { kDispatch = 1, kCombine = 2 };
// Stages of State: what has been done.
enum Stage : int64_t { kFresh = 0, kPosted = 1, kMet = 2, kOwnRowsDone = 3 };

class Exchange {
  public:
    // Whether the heads of all have come and tell of the same rows. The status of the state says why not.
    bool met() const { return state_.stage() >= kMet; }

  protected:
    // `head` is what this rank believes; `cells[r]` cells go to rank r, which holds `experts[r]` experts.
    Exchange(const Slabs& slabs, State& state, const Head& head, int64_t cell_bytes, std::vector<int64_t> cells,
             const std::vector<int64_t>& experts)
        : slabs_(slabs), state_(state), head_(head), cell_bytes_(cell_bytes), cells_(std::move(cells)),
          experts_(experts), self_(state.rank()), ranks_(state.ranks()) {
        for (int64_t rank = 0; rank < ranks_; ++rank) {
            if (head_bytes(rank) + cell_bytes > slabs.slot_bytes())
                throw std::length_error("rows of " + std::to_string(cell_bytes) + " bytes do not fit into slots of " +
                                        std::to_string(slabs.slot_bytes()));
            outboxes_.emplace_back(slabs, self_, rank, exchange(), head_bytes(rank), cell_bytes);
            inboxes_.emplace_back(slabs, self_, rank, exchange(), head_bytes(self_), cell_bytes);
        }
    }

    // Send everybody the head and a first batch, and go on sending until all heads have come. False when paused.
    template <class Write>
    bool meet(Write write) {
        if (met()) return true;
        if (state_.stage() == kFresh) post(write);
        const bool all = carry_out(slabs_.bell(self_), state_.patience(), [&] {
            const bool some = push_all(write);
            return first_without_head() < 0 ? Advance::done : some ? Advance::some : Advance::nothing;
        });
        if (!all) state_.pause(kBegin, first_without_head());
        if (!all || !agree()) return false;
        state_.stage() = kMet;
        return true;
    }

    // Send and read the rest. False when paused; `finish` is up to the caller.
    template <class Write, class Take>
    bool move(Write write, Take take) {
        const bool all = carry_out(slabs_.bell(self_), state_.patience(), [&] {
            const bool some = push_all(write) | pull_all(take);
            return complete() ? Advance::done : some ? Advance::some : Advance::nothing;
        });
        if (!all) pause_in_move();
        return all;
    }

    // By distance, so that not all ranks turn to rank 0 first.
    int64_t peer_at(int64_t distance) const { return (self_ + distance) % ranks_; }
    uint64_t exchange() const { return uint64_t(state_.exchange()); }
    const Inbox& inbox(int64_t peer) const { return inboxes_[peer]; }

    const Slabs slabs_;
    State& state_;
    const Head head_;
    const int64_t cell_bytes_;
    const std::vector<int64_t> cells_, experts_;
    const int64_t self_, ranks_;

    // What each of the peer's experts gets: [experts_[peer]].
    virtual void write_counts(int64_t peer, int32_t* counts) const = 0;

  private:
    int64_t head_bytes(int64_t reader) const {
        return int64_t(sizeof(Head)) + round_up(experts_[reader] * int64_t(sizeof(int32_t)), kLine);
    }

    template <class Write>
    void post(Write write) {
        for (int64_t distance = 1; distance < ranks_; ++distance) {
            const int64_t peer = peer_at(distance);
            Head head = head_;
            head.cells = cells_[peer];
            head.experts = experts_[peer];
            std::memcpy(outboxes_[peer].head(), &head, sizeof head);
            write_counts(peer, reinterpret_cast<int32_t*>(outboxes_[peer].head() + sizeof head));
            state_.bytes_sent() += head_bytes(peer) + cells_[peer] * cell_bytes_;
            push(peer, write);
        }
        state_.stage() = kPosted;
    }

    // Write the cells that there is room for, up to a batch, and publish them, the head with the first.
    template <class Write>
    void push(int64_t peer, Write write) {
        const Outbox& box = outboxes_[peer];
        int64_t& sent = state_.sent(peer);
        const int64_t end = std::min({cells_[peer], box.writable(), sent + batch()});
        for (; sent < end; ++sent) write(peer, sent, box.cell(sent));
        box.publish(sent);
    }

    template <class Write>
    bool push_all(Write write) {
        bool some = false;
        for (int64_t distance = 1; distance < ranks_; ++distance) {
            const int64_t peer = peer_at(distance);
            if (state_.sent(peer) == cells_[peer] || state_.sent(peer) == outboxes_[peer].writable()) continue;
            push(peer, write);
            some = true;
        }
        return some;
    }

    template <class Take>
    bool pull_all(Take take) {
        bool some = false;
        for (int64_t distance = 1; distance < ranks_; ++distance) {
            const int64_t peer = peer_at(distance);
            const Inbox& box = inboxes_[peer];
            int64_t& taken = state_.taken(peer);
            const int64_t end = std::min({box.head().cells, box.readable(), taken + batch()});
            if (taken == end) continue;
            for (; taken < end; ++taken) take(peer, taken, box.cell(taken));
            box.release(taken);
            some = true;
        }
        return some;
    }

    int64_t batch() const { return std::max<int64_t>(1, kBatch / cell_bytes_); }

    int64_t first_without_head() const {
        for (int64_t distance = 1; distance < ranks_; ++distance)
            if (!inboxes_[peer_at(distance)].has_head()) return peer_at(distance);
        return -1;
    }

    bool complete() const { return first_unsent() < 0 && first_untaken() < 0; }
    int64_t first_unsent() const {
        for (int64_t rank = 0; rank < ranks_; ++rank)
            if (rank != self_ && state_.sent(rank) < cells_[rank]) return rank;
        return -1;
    }
    int64_t first_untaken() const {
        for (int64_t rank = 0; rank < ranks_; ++rank)
            if (rank != self_ && state_.taken(rank) < inboxes_[rank].head().cells) return rank;
        return -1;
    }
    void pause_in_move() {
        if (first_untaken() >= 0)
            state_.pause(kRest, first_untaken());
        else
            state_.pause(kRoom, first_unsent());
    }

    // Whether all ranks mean the same rows; writes down what each believes.
    bool agree() {
        bool same = true;
        for (int64_t rank = 0; rank < ranks_; ++rank) {
            const Head& head = rank == self_ ? head_ : inboxes_[rank].head();
            const int64_t held[] = {head.kind, head.width, head.dtype, head.top_k};
            std::copy(std::begin(held), std::end(held), state_.beliefs(rank));
            same = same && std::equal(std::begin(held), std::end(held), state_.beliefs(0));
        }
        if (!same) state_.status() = kDisagree;
        return same;
    }

    std::vector<Outbox> outboxes_;
    std::vector<Inbox> inboxes_;
};

}  // namespace mixtralkit::peer
