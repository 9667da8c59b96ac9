#include "nccl/lane.h"

#include <torch/headeronly/util/Exception.h>

namespace mixtralkit::nccl {

// Stream 0 is the default one of the context that is current: that of the communicator's GPU while this lives.
class Lane::InContext {
  public:
    explicit InContext(const Lane& lane) : driver_(lane.driver_) {
        driver_.check(driver_.cuCtxPushCurrent(lane.context_), "change to the GPU of the communicator");
    }
    ~InContext() {
        CUcontext ours;
        driver_.cuCtxPopCurrent(&ours);
    }
    InContext(const InContext&) = delete;
    InContext& operator=(const InContext&) = delete;

  private:
    const Driver& driver_;
};

Lane::Lane() : driver_(driver()) {
    driver_.check(driver_.cuCtxGetCurrent(&context_), "tell its context");
    STD_TORCH_CHECK(context_ != nullptr, "no GPU is current in this thread");
    int least = 0, greatest = 0;
    driver_.check(driver_.cuCtxGetStreamPriorityRange(&least, &greatest), "tell its priorities");
    driver_.check(driver_.cuStreamCreateWithPriority(&stream_, CU_STREAM_NON_BLOCKING, greatest), "make a stream");
    for (CUevent* event : {&before_, &after_, &marked_})
        driver_.check(driver_.cuEventCreate(event, CU_EVENT_DISABLE_TIMING), "make an event");
}

Lane::~Lane() {  // whatever the driver says: it may have ended before
    CUcontext ours;
    driver_.cuCtxPushCurrent(context_);
    for (CUevent event : {before_, after_, marked_}) driver_.cuEventDestroy(event);
    driver_.cuStreamDestroy(stream_);
    driver_.cuCtxPopCurrent(&ours);
}

void Lane::fork(CUstream caller) const {
    const InContext here(*this);
    driver_.check(driver_.cuEventRecord(before_, caller), "note what comes before an exchange");
    driver_.check(driver_.cuStreamWaitEvent(stream_, before_, 0), "wait for what comes before an exchange");
}

void Lane::join(CUstream caller) const {
    const InContext here(*this);
    driver_.check(driver_.cuEventRecord(after_, stream_), "note the end of an exchange");
    driver_.check(driver_.cuStreamWaitEvent(caller, after_, 0), "wait for the end of an exchange");
}

void Lane::mark(CUstream caller) const {
    const InContext here(*this);
    driver_.check(driver_.cuEventRecord(marked_, caller), "note where a stream is");
}

bool Lane::reached() const {
    const InContext here(*this);
    const CUresult state = driver_.cuEventQuery(marked_);
    if (state == CUDA_ERROR_NOT_READY) return false;
    driver_.check(state, "do what is on a stream");
    return true;
}

}  // namespace mixtralkit::nccl
