// Where things lie in the slab of a rank, which the others write into and it alone reads.
//
//     words of rank 0 | words of rank 1 | ... | rows of rank 0, twice | rows of rank 1, twice | ... | results, twice
//
// The words of peer p are written by p only. Rows: p's message of one dispatch, in one of `kBuffers` regions used in
// turn. Results: of one combine, one place for every (token, k) of the owner's, whoever sends it.
// docs/peer_exchange.md tells the protocol. Memory starts as zeros, which are valid words.
#pragma once

#include <cstddef>
#include <cstdint>

#include "split/both.h"

namespace mixtralkit::split {

constexpr int64_t kMaxRanks = 32;
constexpr int64_t kBuffers = 2;
constexpr int64_t kScratch = 2048;  // numbers of a rank's experts times ranks, at most
constexpr int64_t kApart = 128;     // bytes between words of different writers
constexpr int64_t kUnit = 16;       // bytes that a thread moves at a time; rows begin at multiples of it

MIXTRALKIT_BOTH constexpr int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }
MIXTRALKIT_BOTH constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// What a peer says in the owner's slab, each the number of a dispatch or combine; numbers start at 1 and only grow.
enum Word : int64_t {
    kRowsSent = 0,     // the peer's rows of this and all earlier dispatches may be read
    kRowsRead = 1,     // the owner's rows of them have been read by the peer, which will not look there again
    kResultsSent = 2,  // the peer's results for the owner's tokens, of this and all earlier combines
    kResultsRead = 3,  // the owner's results for the peer's tokens have been read
};

// The beginning of a message of rows: what the sender believes a row is, and how many tokens follow.
struct Head {
    int64_t width;  // elements
    int64_t dtype;  // torch's number of it
    int64_t top_k;
    int64_t fp8;         // whether rows are written in 8 bits
    int64_t tokens;      // in this message
    int64_t all_tokens;  // of the call, which may take several messages
    int64_t unused[2];
};

// One of a token's K choices: the expert's number at the receiver (-1: elsewhere), and how many rows of the sender
// for that expert come before this one.
struct Choice {
    int32_t index;
    int32_t place;
};

// How a message is laid out, which the call's rows decide.
//
//     head | rows for each of all experts, int32 | choices [capacity, K] | scales [capacity] | rows [capacity]
struct Shape {
    int64_t experts, width, element_bytes, dtype, top_k, fp8;
    int64_t capacity;  // tokens that fit

    MIXTRALKIT_BOTH int64_t row_bytes() const { return width * element_bytes; }
    MIXTRALKIT_BOTH int64_t result_stride() const { return round_up(row_bytes(), kUnit); }
    MIXTRALKIT_BOTH int64_t row_stride() const { return fp8 ? round_up(width, kUnit) : result_stride(); }
    MIXTRALKIT_BOTH int64_t choices_at() const {
        return int64_t(sizeof(Head)) + round_up(experts * int64_t(sizeof(int32_t)), kUnit);
    }
    MIXTRALKIT_BOTH int64_t scales_at() const {
        return choices_at() + round_up(capacity * top_k * int64_t(sizeof(Choice)), kUnit);
    }
    MIXTRALKIT_BOTH int64_t rows_at() const { return scales_at() + round_up(capacity * int64_t(sizeof(float)), kUnit); }

    // The capacity within regions of so many bytes; 0 or less where not even one token fits.
    MIXTRALKIT_BOTH int64_t capacity_within(int64_t rows_bytes, int64_t results_bytes) const {
        const int64_t each = top_k * int64_t(sizeof(Choice)) + int64_t(sizeof(float)) + row_stride();
        const int64_t rounding = 2 * kUnit;
        return least((rows_bytes - choices_at() - rounding) / each, results_bytes / (top_k * result_stride()));
    }
};

// One message of rows.
class Message {
  public:
    MIXTRALKIT_BOTH Message(std::byte* begin, const Shape& shape) : begin_(begin), shape_(shape) {}

    MIXTRALKIT_BOTH Head& head() const { return *reinterpret_cast<Head*>(begin_); }
    MIXTRALKIT_BOTH int32_t& rows_for(int64_t expert) const {
        return reinterpret_cast<int32_t*>(begin_ + sizeof(Head))[expert];
    }
    MIXTRALKIT_BOTH Choice& choice(int64_t token, int64_t k) const {
        return reinterpret_cast<Choice*>(begin_ + shape_.choices_at())[token * shape_.top_k + k];
    }
    MIXTRALKIT_BOTH float& scale(int64_t token) const {
        return reinterpret_cast<float*>(begin_ + shape_.scales_at())[token];
    }
    MIXTRALKIT_BOTH std::byte* row(int64_t token) const {
        return begin_ + shape_.rows_at() + token * shape_.row_stride();
    }

  private:
    std::byte* begin_;
    const Shape& shape_;
};

// The slabs of all ranks, at the addresses that this process, or its device, has them at.
struct Slabs {
    std::byte* slab[kMaxRanks];
    int64_t ranks, rows_bytes, results_bytes;

    MIXTRALKIT_BOTH static int64_t bytes_for(int64_t ranks, int64_t rows_bytes, int64_t results_bytes) {
        return words_bytes(ranks) + kBuffers * (ranks * rows_bytes + results_bytes);
    }

    MIXTRALKIT_BOTH int64_t* word(int64_t owner, int64_t peer, Word which) const {
        return reinterpret_cast<int64_t*>(slab[owner] + peer * kApart) + which;
    }
    // What `source` sends to `owner` in dispatch `number`.
    MIXTRALKIT_BOTH std::byte* rows(int64_t owner, int64_t source, int64_t number) const {
        const int64_t region = source * kBuffers + number % kBuffers;
        return slab[owner] + words_bytes(ranks) + region * rows_bytes;
    }
    // The results of combine `number` for the tokens of `owner`.
    MIXTRALKIT_BOTH std::byte* results(int64_t owner, int64_t number) const {
        const int64_t before = ranks * kBuffers * rows_bytes + number % kBuffers * results_bytes;
        return slab[owner] + words_bytes(ranks) + before;
    }

  private:
    MIXTRALKIT_BOTH static constexpr int64_t words_bytes(int64_t ranks) { return round_up(ranks * kApart, 4096); }
};

}  // namespace mixtralkit::split
