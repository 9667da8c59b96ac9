// A communicator of our own: one rank's end of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "nccl/lane.h"
#include "nccl/library.h"

namespace mixtralkit::nccl {

// Bytes that lie together in a buffer, and the rank that they go to or come from.
struct Piece {
    int rank;
    std::size_t offset, bytes;
};

// No call blocks. What is begun by the constructor, `exchange` or `all_gather` goes on in the background until `settle`
// finds it done, and nothing else may be begun before. A failure, or the rank's giving up, aborts the communicator with
// all that it has on the device; it is of no use then. One thread at a time.
class Communicator {
  public:
    // Begin to join `ranks` ranks, all with the same `id`, on the GPU that is current in this thread.
    Communicator(const ncclUniqueId& id, int ranks, int rank);
    ~Communicator();
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    // Wait for up to `seconds` for what was begun; whether it is done: the ranks are joined, or the work is on its
    // stream, with the caller's behind it. Throws, with NCCL's words and what was being done, where it failed.
    bool settle(double seconds);

    int ranks() const { return ranks_; }

    // Begin to send the pieces of `sent` and to fill those of `received`, after all that is on `caller` by now. Pieces
    // between two ranks go in the order in which both have them.
    void exchange(CUstream caller, const std::byte* sent, std::span<const Piece> sends, std::byte* received,
                  std::span<const Piece> receives);

    // Begin to collect `bytes` of every rank's `part` in `whole`, in the order of the ranks.
    void all_gather(CUstream caller, const std::byte* part, std::byte* whole, std::size_t bytes);

    // Wait for up to `seconds` until the device has done all that was on `caller` at the first of these calls; whether
    // it has. Throws where the communicator fails meanwhile.
    bool drained(CUstream caller, double seconds);

    // Let all ranks' work come to its end for up to `seconds`, and free everything; gives up where it does not.
    void close(double seconds);

    // Abort what is under way, and free everything: CUDA graphs that hold such work must not run again, and the rest is
    // freed when they are gone.
    void give_up();

  private:
    Lane& begin(CUstream caller, const char* doing);
    bool wait(double seconds);
    void check(ncclResult_t result);
    void require_open() const;
    std::string who() const;

    const Functions& nccl_;
    const int ranks_, rank_;
    ncclComm_t comm_ = nullptr;
    std::unique_ptr<Lane> lane_;
    std::string doing_;
    std::optional<CUstream> joins_;  // whose order with ours is still to be made, when the work is on its stream
    bool pending_ = false, marked_ = false;
};

}  // namespace mixtralkit::nccl
