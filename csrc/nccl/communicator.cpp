#include "nccl/communicator.h"

#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include <torch/headeronly/util/Exception.h>

namespace mixtralkit::nccl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::milliseconds(2);  // longer than work takes to be put on its stream
constexpr auto kNap = std::chrono::microseconds(100);
constexpr auto kAborting = std::chrono::seconds(1);  // many times what NCCL takes where nothing holds it up

// Ask `done` until it says yes, for up to `seconds`: whether it has.
template <class Done>
bool poll(double seconds, Done done) {
    const auto began = Clock::now();
    while (!done()) {
        const auto waited = Clock::now() - began;
        if (std::chrono::duration<double>(waited).count() >= seconds) return false;
        if (waited < kSpin) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(kNap);
        }
    }
    return true;
}

}  // namespace

Communicator::Communicator(const ncclUniqueId& id, int ranks, int rank)
    : nccl_(library().functions), ranks_(ranks), rank_(rank), doing_("join the other ranks") {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(nccl_.CommInitRankConfig(&comm_, ranks, id, rank, &config));
    pending_ = true;
}

Communicator::~Communicator() { give_up(); }

bool Communicator::settle(double seconds) {
    require_open();
    if (!pending_) return true;
    if (!wait(seconds)) return false;
    if (!lane_) lane_ = std::make_unique<Lane>();
    if (joins_) lane_->join(*joins_);
    joins_.reset();
    pending_ = false;
    return true;
}

void Communicator::exchange(CUstream caller, const std::byte* sent, std::span<const Piece> sends, std::byte* received,
                            std::span<const Piece> receives) {
    const Lane& lane = begin(caller, "exchange rows");
    ncclResult_t first = ncclSuccess;
    const auto note = [&](ncclResult_t result) {
        if (first == ncclSuccess && result != ncclInProgress) first = result;
    };
    check(nccl_.GroupStart());
    for (const Piece& piece : receives)
        note(nccl_.Recv(received + piece.offset, piece.bytes, ncclUint8, piece.rank, comm_, lane.stream()));
    for (const Piece& piece : sends)
        note(nccl_.Send(sent + piece.offset, piece.bytes, ncclUint8, piece.rank, comm_, lane.stream()));
    note(nccl_.GroupEnd());  // whatever came before: an open group would swallow all later calls
    check(first);
}

void Communicator::all_gather(CUstream caller, const std::byte* part, std::byte* whole, std::size_t bytes) {
    const Lane& lane = begin(caller, "gather from all ranks");
    check(nccl_.AllGather(part, whole, bytes, ncclUint8, comm_, lane.stream()));
}

bool Communicator::drained(CUstream caller, double seconds) {
    require_open();
    doing_ = "wait for the other ranks";
    if (!marked_) lane_->mark(caller);
    marked_ = !poll(seconds, [&] {
        ncclResult_t state = ncclSuccess;
        check(nccl_.CommGetAsyncError(comm_, &state));
        check(state);
        return lane_->reached();
    });
    return !marked_;
}

void Communicator::close(double seconds) {
    if (comm_ != nullptr && !pending_) {
        doing_ = "end its communicator";
        check(nccl_.CommFinalize(comm_));
        if (wait(seconds)) {
            nccl_.CommDestroy(comm_);
            comm_ = nullptr;
        }
    }
    give_up();
}

void Communicator::give_up() {
    // NCCL stops what is on the device at once, and then waits for all CUDA graphs that hold work of this communicator
    // to be destroyed. Whoever has them may be waiting for this call, so it goes on in a thread of its own.
    if (comm_ != nullptr) {
        std::promise<void> aborted;
        const std::future<void> end = aborted.get_future();
        std::thread([abort = nccl_.CommAbort, comm = comm_, lane = std::move(lane_),
                     aborted = std::move(aborted)]() mutable {
            abort(comm);
            lane.reset();
            aborted.set_value();
        }).detach();
        end.wait_for(kAborting);
    }
    comm_ = nullptr;
    lane_.reset();
}

Lane& Communicator::begin(CUstream caller, const char* doing) {
    require_open();
    STD_TORCH_CHECK(!pending_, who(), " has not done what it began: to ", doing_);
    lane_->fork(caller);
    doing_ = doing;
    joins_ = caller;
    pending_ = true;
    return *lane_;
}

bool Communicator::wait(double seconds) {
    return poll(seconds, [&] {
        ncclResult_t state = ncclSuccess;
        check(nccl_.CommGetAsyncError(comm_, &state));
        check(state);
        return state == ncclSuccess;
    });
}

void Communicator::check(ncclResult_t result) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const std::string words = nccl_.GetErrorString(result), last = nccl_.GetLastError(comm_);
    give_up();
    STD_TORCH_CHECK(false, who(), " could not ", doing_, ": NCCL ", version_text(library().version), " says: ", words,
                    last.empty() ? "" : "; ", last);
}

void Communicator::require_open() const {
    STD_TORCH_CHECK(comm_ != nullptr, who(), " has closed its communicator or given it up");
}

std::string Communicator::who() const { return "rank " + std::to_string(rank_) + " of " + std::to_string(ranks_); }

}  // namespace mixtralkit::nccl
