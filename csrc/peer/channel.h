// One rank's message to another in one exchange: a head, and any number of cells of one size.
//
// Cells lie behind the head in as many places as the slot has room for, and go round when there are more of them; the
// writer then waits for the reader (`consumed`). A message that fits needs no word back: the slot's next message is at
// least two exchanges later, and no rank begins an exchange before it has read all messages of the one before.
#pragma once

#include <algorithm>

#include "peer/bell.h"

namespace mixtralkit::peer {

// The writer's end, in the slab of `peer`.
class Outbox {
  public:
    Outbox(const Slabs& slabs, int64_t self, int64_t peer, uint64_t exchange, int64_t head_bytes, int64_t cell_bytes)
        : slot_(slabs.slot(peer, self, exchange)), peer_words_(&slabs.words(peer, self)), peer_bell_(&slabs.bell(peer)),
          own_words_(&slabs.words(self, peer)), exchange_(exchange), head_bytes_(head_bytes), cell_bytes_(cell_bytes),
          places_((slabs.slot_bytes() - head_bytes) / cell_bytes) {}

    std::byte* head() const { return slot_; }
    std::byte* cell(int64_t index) const { return slot_ + head_bytes_ + index % places_ * cell_bytes_; }

    // Cells before this one may be written. Acquire: the reader has read what lay there. Sequentially consistent as
    // it is looked at before a sleep.
    int64_t writable() const {
        const int64_t parts = parts_of(own_words_->consumed.load(std::memory_order_seq_cst), exchange_);
        return std::max<int64_t>(0, parts - 1) + places_;
    }

    // The head and the cells before `cells` may be read. Releases what was written; sequentially consistent for `ring`.
    void publish(int64_t cells) const {
        peer_words_->published.store(stamp(exchange_, 1 + cells), std::memory_order_seq_cst);
        ring(*peer_bell_);
    }

  private:
    std::byte* slot_;
    PeerWords* peer_words_;
    Bell* peer_bell_;
    PeerWords* own_words_;
    uint64_t exchange_;
    int64_t head_bytes_, cell_bytes_, places_;
};

// The reader's end, in its own slab.
class Inbox {
  public:
    Inbox(const Slabs& slabs, int64_t self, int64_t peer, uint64_t exchange, int64_t head_bytes, int64_t cell_bytes)
        : slot_(slabs.slot(self, peer, exchange)), own_words_(&slabs.words(self, peer)),
          peer_words_(&slabs.words(peer, self)), peer_bell_(&slabs.bell(peer)), exchange_(exchange),
          head_bytes_(head_bytes), cell_bytes_(cell_bytes), places_((slabs.slot_bytes() - head_bytes) / cell_bytes) {}

    const Head& head() const { return *reinterpret_cast<const Head*>(slot_); }
    const int32_t* counts() const { return reinterpret_cast<const int32_t*>(slot_ + sizeof(Head)); }
    const std::byte* cell(int64_t index) const { return slot_ + head_bytes_ + index % places_ * cell_bytes_; }

    // Whether the head may be read.
    bool has_head() const { return parts() > 0; }

    // Cells before this one may be read, if the message has that many.
    int64_t readable() const { return std::max<int64_t>(0, parts() - 1); }

    // The cells before `cells` have been read. The writer needs to know only if it has more of them than places.
    void release(int64_t cells) const {
        if (head().cells <= places_) return;
        peer_words_->consumed.store(stamp(exchange_, 1 + cells), std::memory_order_seq_cst);
        ring(*peer_bell_);
    }

  private:
    // Acquire: what was written before is there. Sequentially consistent as it is looked at before a sleep.
    int64_t parts() const { return parts_of(own_words_->published.load(std::memory_order_seq_cst), exchange_); }

    std::byte* slot_;
    PeerWords* own_words_;
    PeerWords* peer_words_;
    Bell* peer_bell_;
    uint64_t exchange_;
    int64_t head_bytes_, cell_bytes_, places_;
};

}  // namespace mixtralkit::peer
