// Where things lie in the memory that ranks share, and what the words in it say.
//
// Every rank owns a slab. Others write into it, it alone reads there and waits there, so that over CUDA IPC a rank
// will poll its own memory only. All places are offsets: each process, or device, has the slabs at other addresses.
// docs/peer_exchange.md tells the protocol.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mixtralkit::peer {

constexpr int64_t kLine = 64;    // bytes that travel between caches at a time
constexpr int64_t kApart = 128;  // processors fetch lines in pairs: words of different writers lie this far apart
constexpr int64_t kPage = 4096;
// Slots of one rank in another's slab, used in turn. Two would be right; with more, a line has left the reader's cache
// before it is written again, which halves the time of small messages.
constexpr int64_t kSlots = 16;
constexpr int64_t kPartsBits = 28;

constexpr int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// A stamp says in one word how much of which exchange's message is there (or may be overwritten): parts, of which the
// head is the first and each cell one more. Stamps of a channel only grow; nothing is ever reset.
constexpr uint64_t stamp(uint64_t exchange, int64_t parts) { return exchange << kPartsBits | uint64_t(parts); }

// The parts of the message of `exchange`: all of them once a later exchange has begun, none before.
constexpr int64_t parts_of(uint64_t stamp, uint64_t exchange) {
    constexpr int64_t all = (int64_t(1) << kPartsBits) - 1;
    const uint64_t at = stamp >> kPartsBits;
    return at > exchange ? all : at < exchange ? 0 : int64_t(stamp & uint64_t(all));
}

// What one peer says in the owner's slab; only that peer writes it.
struct alignas(kApart) PeerWords {
    std::atomic<uint64_t> published;  // stamp: parts of the peer's message to the owner that may be read
    std::atomic<uint64_t> consumed;   // stamp: parts of the owner's message to the peer that it will not read again
};

// 1 while the owner sleeps, or is about to; peers set it to 0 and wake the owner. The word of the futex.
struct alignas(kApart) Bell {
    std::atomic<uint32_t> asleep;
};

// The beginning of every message, followed by the number of rows for each of the receiver's experts (int32).
struct Head {
    int64_t kind;   // of exchange: dispatch or combine
    int64_t width;  // elements in a row
    int64_t dtype;  // torch's number of it
    int64_t top_k;
    int64_t cells;
    int64_t experts;  // how many counts follow
    int64_t unused[2];
};

static_assert(sizeof(Head) == kLine);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

// The slabs of all ranks, as this process sees them. Memory starts as zeros, which are valid words.
class Slabs {
  public:
    Slabs(std::byte* base, int64_t ranks, int64_t slot_bytes) : base_(base), ranks_(ranks), slot_bytes_(slot_bytes) {}

    static int64_t bytes_for(int64_t ranks, int64_t slot_bytes) { return ranks * slab_bytes(ranks, slot_bytes); }

    int64_t ranks() const { return ranks_; }
    int64_t slot_bytes() const { return slot_bytes_; }

    Bell& bell(int64_t owner) const { return *reinterpret_cast<Bell*>(slab(owner)); }

    PeerWords& words(int64_t owner, int64_t peer) const {
        return *reinterpret_cast<PeerWords*>(slab(owner) + sizeof(Bell) + peer * sizeof(PeerWords));
    }

    // Where in `owner`'s slab the message of `peer` lies.
    std::byte* slot(int64_t owner, int64_t peer, uint64_t exchange) const {
        const int64_t index = peer * kSlots + int64_t(exchange % kSlots);
        return slab(owner) + words_bytes(ranks_) + index * slot_bytes_;
    }

  private:
    static int64_t words_bytes(int64_t ranks) {
        return round_up(int64_t(sizeof(Bell)) + ranks * int64_t(sizeof(PeerWords)), kPage);
    }
    static int64_t slab_bytes(int64_t ranks, int64_t slot_bytes) {
        return round_up(words_bytes(ranks) + ranks * kSlots * slot_bytes, kPage);
    }
    std::byte* slab(int64_t owner) const { return base_ + owner * slab_bytes(ranks_, slot_bytes_); }

    std::byte* base_;
    int64_t ranks_, slot_bytes_;
};

}  // namespace mixtralkit::peer
