// NCCL and our communicators as operators. A communicator is a number, which belongs to an object of Python's; what
// takes long comes back unfinished, so that Python can look at signals and at the other ranks, and is asked for again.
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "nccl/communicator.h"
#include "new_tensor.h"

namespace mixtralkit::nccl {
namespace {

using torch::stable::Tensor;

struct Registry {
    std::mutex mutex;
    std::map<int64_t, std::shared_ptr<Communicator>> communicators;
    int64_t last = 0;
};

// Never destroyed: when the process ends, NCCL and the driver may have ended before.
Registry& registry() {
    static auto* found = new Registry;
    return *found;
}

std::shared_ptr<Communicator> at(int64_t number) {
    Registry& all = registry();
    const std::lock_guard<std::mutex> lock(all.mutex);
    const auto found = all.communicators.find(number);
    STD_TORCH_CHECK(found != all.communicators.end(), "there is no communicator ", number);
    return found->second;
}

CUstream stream_of(int64_t number) { return reinterpret_cast<CUstream>(number); }

std::byte* bytes_of(const Tensor& x) { return static_cast<std::byte*>(x.data_ptr()); }

// The pieces of `rows`, a matrix, that `triples` names: rank, first row and number of rows of each. None is empty.
std::vector<Piece> pieces_of(const Tensor& rows, const std::vector<int64_t>& triples) {
    STD_TORCH_CHECK(rows.dim() == 2 && rows.is_contiguous(), "rows are not a matrix whose rows lie together");
    STD_TORCH_CHECK(triples.size() % 3 == 0, triples.size(), " numbers are no triples");
    const int64_t row_bytes = rows.size(1) * rows.element_size();
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < triples.size(); i += 3) {
        const int64_t first = triples[i + 1], count = triples[i + 2];
        STD_TORCH_CHECK(first >= 0 && count > 0 && first + count <= rows.size(0), "rows ", first, " to ", first + count,
                        " are not among ", rows.size(0));
        pieces.push_back({int(triples[i]), std::size_t(first * row_bytes), std::size_t(count * row_bytes)});
    }
    return pieces;
}

int64_t header_version() { return kHeaderVersion; }

std::string open(std::string wheel) { return open_library(wheel).path; }

int64_t library_version() { return library().version; }

Tensor unique_id() {
    ncclUniqueId id;
    const ncclResult_t result = library().functions.GetUniqueId(&id);
    STD_TORCH_CHECK(result == ncclSuccess, "NCCL could not make an id: ", library().functions.GetErrorString(result),
                    "; ", library().functions.GetLastError(nullptr));
    Tensor made = new_tensor(aoti_torch_dtype_uint8(), int64_t(sizeof id));
    std::memcpy(made.data_ptr(), &id, sizeof id);
    return made;
}

int64_t join(Tensor id, int64_t ranks, int64_t rank) {
    ncclUniqueId given;
    STD_TORCH_CHECK(id.numel() == int64_t(sizeof given) && id.element_size() == 1, "an id has ", sizeof given,
                    " bytes");
    std::memcpy(&given, id.data_ptr(), sizeof given);
    auto made = std::make_shared<Communicator>(given, int(ranks), int(rank));
    Registry& all = registry();
    const std::lock_guard<std::mutex> lock(all.mutex);
    all.communicators[++all.last] = std::move(made);
    return all.last;
}

bool settle(int64_t number, double seconds) { return at(number)->settle(seconds); }

bool exchange(int64_t number, int64_t stream, Tensor sent, std::vector<int64_t> sends, Tensor received,
              std::vector<int64_t> receives, double seconds) {
    const auto communicator = at(number);
    communicator->exchange(stream_of(stream), bytes_of(sent), pieces_of(sent, sends), bytes_of(received),
                           pieces_of(received, receives));
    return communicator->settle(seconds);
}

bool all_gather(int64_t number, int64_t stream, Tensor part, Tensor whole, double seconds) {
    const auto communicator = at(number);
    const int64_t bytes = part.numel() * int64_t(part.element_size());
    STD_TORCH_CHECK(part.is_contiguous() && whole.is_contiguous(), "numbers to gather do not lie together");
    STD_TORCH_CHECK(whole.numel() * int64_t(whole.element_size()) == bytes * communicator->ranks(),
                    "there is not the room for ", communicator->ranks(), " times ", bytes, " bytes");
    communicator->all_gather(stream_of(stream), bytes_of(part), bytes_of(whole), std::size_t(bytes));
    return communicator->settle(seconds);
}

bool drained(int64_t number, int64_t stream, double seconds) { return at(number)->drained(stream_of(stream), seconds); }

void give_up(int64_t number) { at(number)->give_up(); }

void close(int64_t number, double seconds) {
    const auto communicator = at(number);
    {
        Registry& all = registry();
        const std::lock_guard<std::mutex> lock(all.mutex);
        all.communicators.erase(number);
    }
    communicator->close(seconds);
}

}  // namespace
}  // namespace mixtralkit::nccl

STABLE_TORCH_LIBRARY_FRAGMENT(mixtralkit, m) {
    m.def("nccl_header_version() -> int");
    m.def("nccl_open(str wheel) -> str");
    m.def("nccl_library_version() -> int");
    m.def("nccl_unique_id() -> Tensor");
    m.def("nccl_join(Tensor id, int ranks, int rank) -> int");
    m.def("nccl_settle(int communicator, float seconds) -> bool");
    m.def("nccl_exchange(int communicator, int stream, Tensor sent_ND, int[] sends, Tensor(a!) received_RD, "
          "int[] receives, float seconds) -> bool");
    m.def("nccl_all_gather(int communicator, int stream, Tensor part, Tensor(a!) whole, float seconds) -> bool");
    m.def("nccl_drained(int communicator, int stream, float seconds) -> bool");
    m.def("nccl_give_up(int communicator) -> ()");
    m.def("nccl_close(int communicator, float seconds) -> ()");
}

// For every device: NCCL itself says whether it can read an address.
STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("nccl_header_version", TORCH_BOX(&mixtralkit::nccl::header_version));
    m.impl("nccl_open", TORCH_BOX(&mixtralkit::nccl::open));
    m.impl("nccl_library_version", TORCH_BOX(&mixtralkit::nccl::library_version));
    m.impl("nccl_unique_id", TORCH_BOX(&mixtralkit::nccl::unique_id));
    m.impl("nccl_join", TORCH_BOX(&mixtralkit::nccl::join));
    m.impl("nccl_settle", TORCH_BOX(&mixtralkit::nccl::settle));
    m.impl("nccl_exchange", TORCH_BOX(&mixtralkit::nccl::exchange));
    m.impl("nccl_all_gather", TORCH_BOX(&mixtralkit::nccl::all_gather));
    m.impl("nccl_drained", TORCH_BOX(&mixtralkit::nccl::drained));
    m.impl("nccl_give_up", TORCH_BOX(&mixtralkit::nccl::give_up));
    m.impl("nccl_close", TORCH_BOX(&mixtralkit::nccl::close));
}
