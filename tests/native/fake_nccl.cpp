// A library with the functions of NCCL, and of CUDA's driver, that csrc/nccl calls, for machines without a GPU: what is
// sent travels in files from process to process, and streams and events do nothing. It is strict where NCCL is: work
// goes on in the background, nothing may be begun meanwhile, and messages must have the sizes that their receivers
// expect. FAKE_NCCL says what goes wrong: "late" (work is never on its stream), "hung" (the device never comes to its
// end), "broken" (it ends in an error), "refused" (a send is an invalid argument), "held" (there are CUDA graphs:
// nothing ends or aborts a communicator before they are gone, here for up to 20 s); FAKE_NCCL_VERSION which version it
// pretends to be.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nccl.h>
#include <string>
#include <thread>
#include <vector>

namespace fs = std::filesystem;

struct ncclComm {
    std::string folder;
    int ranks, rank;
    std::map<std::string, int> sent, received;  // messages so far, by "from-to"
    std::thread worker;
    std::atomic<ncclResult_t> state{ncclSuccess};
    std::atomic<bool> aborted{false};
};

namespace {

std::atomic<int> live{0}, aborts{0}, open_groups{0};
std::vector<std::function<bool()>> group;  // of the calls between GroupStart and GroupEnd
ncclComm* group_comm = nullptr;
std::string last_error;

bool goes_wrong(const char* how) {
    const char* mode = std::getenv("FAKE_NCCL");
    return mode != nullptr && std::string(mode) == how;
}

ncclResult_t refuse(const char* words) {
    last_error = words;
    return ncclInvalidArgument;
}

std::string next_file(const ncclComm* comm, std::map<std::string, int>& messages, int from, int to) {
    const std::string pair = std::to_string(from) + "-" + std::to_string(to);
    return comm->folder + "/" + pair + "-" + std::to_string(messages[pair]++);
}

std::function<bool()> sending(ncclComm* comm, const void* data, size_t bytes, int to) {
    return [name = next_file(comm, comm->sent, comm->rank, to), data, bytes] {
        std::ofstream(name + "~", std::ios::binary).write(static_cast<const char*>(data), std::streamsize(bytes));
        fs::rename(name + "~", name);
        return true;
    };
}

std::function<bool()> receiving(ncclComm* comm, void* data, size_t bytes, int from) {
    return [comm, name = next_file(comm, comm->received, from, comm->rank), data, bytes] {
        while (!fs::exists(name)) {
            if (comm->aborted) return false;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        if (fs::file_size(name) != bytes) {
            last_error =
                "a message of " + std::to_string(fs::file_size(name)) + " bytes, and not " + std::to_string(bytes);
            return false;
        }
        std::ifstream(name, std::ios::binary).read(static_cast<char*>(data), std::streamsize(bytes));
        fs::remove(name);
        return true;
    };
}

void wait_for_worker(ncclComm* comm) {
    if (comm->worker.joinable()) comm->worker.join();
}

ncclResult_t run(ncclComm* comm, std::vector<std::function<bool()>> works) {
    if (comm->state != ncclSuccess) return refuse("begun while something else was under way");
    wait_for_worker(comm);
    comm->state = ncclInProgress;
    comm->worker = std::thread([comm, works = std::move(works)] {
        while ((goes_wrong("late") || goes_wrong("held")) && !comm->aborted)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        bool good = !goes_wrong("broken");
        if (!good) last_error = "the other end is gone";
        for (const auto& work : works) good = good && work();
        comm->state = good ? ncclSuccess : ncclRemoteError;
    });
    return ncclInProgress;
}

ncclResult_t end(ncclComm* comm) {
    wait_for_worker(comm);
    delete comm;
    --live;
    return ncclSuccess;
}

}  // namespace

extern "C" {

int fake_live() { return live; }
int fake_aborts() { return aborts; }
int fake_open_groups() { return open_groups; }

ncclResult_t ncclGetVersion(int* version) {
    const char* given = std::getenv("FAKE_NCCL_VERSION");
    *version = given != nullptr ? std::atoi(given) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    return result == ncclInvalidArgument ? "invalid argument" : "remote process exited or there was a network error";
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    const std::string folder = fs::temp_directory_path() / "fake-nccl-XXXXXX";
    if (folder.size() >= sizeof id->internal) return ncclInternalError;
    std::strcpy(id->internal, folder.c_str());
    return mkdtemp(id->internal) != nullptr ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
    if (config->blocking != 0) return refuse("a communicator that blocks");
    *comm = new ncclComm{id.internal, ranks, rank, {}, {}, {}};
    ++live;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    *state = comm->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) { return run(comm, {}); }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (comm->rank == 0) fs::remove(comm->folder);  // fails where something was sent and not received
    return end(comm);
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    comm->aborted = true;
    for (int waited = 0; goes_wrong("held") && waited < 20000; ++waited)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++aborts;
    return end(comm);
}

ncclResult_t ncclGroupStart() {
    ++open_groups;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    --open_groups;
    // Sends first: one thread does all, one after the other.
    std::vector<std::function<bool()>> works(group.rbegin(), group.rend());
    group.clear();
    return group_comm == nullptr ? ncclSuccess : run(group_comm, std::move(works));
}

ncclResult_t ncclSend(const void* data, size_t bytes, ncclDataType_t, int to, ncclComm_t comm, cudaStream_t) {
    if (goes_wrong("refused")) return refuse("a peer that there is not");
    group.insert(group.end(), sending(comm, data, bytes, to));
    group_comm = comm;
    return ncclSuccess;
}

ncclResult_t ncclRecv(void* data, size_t bytes, ncclDataType_t, int from, ncclComm_t comm, cudaStream_t) {
    group.insert(group.begin(), receiving(comm, data, bytes, from));
    group_comm = comm;
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void* part, void* whole, size_t bytes, ncclDataType_t, ncclComm_t comm, cudaStream_t) {
    std::vector<std::function<bool()>> works;
    for (int rank = 0; rank < comm->ranks; ++rank) works.push_back(sending(comm, part, bytes, rank));
    for (int rank = 0; rank < comm->ranks; ++rank)
        works.push_back(receiving(comm, static_cast<char*>(whole) + size_t(rank) * bytes, bytes, rank));
    return run(comm, std::move(works));
}

CUresult cuGetErrorString(CUresult, const char** words) {
    *words = "an error";
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = reinterpret_cast<CUcontext>(1);
    return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext*) { return CUDA_SUCCESS; }
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = *greatest = 0;
    return CUDA_SUCCESS;
}
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) {
    *stream = reinterpret_cast<CUstream>(2);
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream) { return CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent*, unsigned) { return CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent) { return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent, CUstream) { return CUDA_SUCCESS; }
CUresult cuEventQuery(CUevent) { return goes_wrong("hung") ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS; }
}
