// The stream that a communicator's work runs on, and its order with the streams of those who call.
#pragma once

#include "nccl/driver.h"

namespace mixtralkit::nccl {

// A stream of the highest priority in the context that was current when it was made. Where a caller's stream is being
// captured in a graph, what happens between `fork` and `join` is captured with it.
class Lane {
  public:
    Lane();
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    CUstream stream() const { return stream_; }

    // What follows here comes after all that is on `caller` by now.
    void fork(CUstream caller) const;

    // What follows on `caller` comes after all that is here by now.
    void join(CUstream caller) const;

    // Mark the end of what is on `caller` by now, and ask later whether the device has come there.
    void mark(CUstream caller) const;
    bool reached() const;

  private:
    class InContext;

    const Driver& driver_;
    CUcontext context_ = nullptr;
    CUstream stream_ = nullptr;
    CUevent before_ = nullptr, after_ = nullptr, marked_ = nullptr;
};

}  // namespace mixtralkit::nccl
