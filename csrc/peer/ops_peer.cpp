// The exchange over shared memory as operators: tensors on one side, the protocol of the headers on the other.
//
// An exchange that takes long comes back unfinished, so that Python can look at signals and at the other ranks: the
// status in `state` says so, and the same call, given the tensors it returned, goes on.
#if defined(__linux__)

#include <optional>
#include <tuple>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "new_tensor.h"
#include "peer/combine.h"

namespace mixtralkit::peer {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

int32_t dtype_of(const Tensor& x) {
    int32_t dtype;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &dtype));
    return dtype;
}

template <class T>
T* data(const Tensor& x) {
    return static_cast<T*>(x.data_ptr());
}

Tensor dense(Tensor x) { return x.is_contiguous() ? x : torch::stable::contiguous(x); }

// The arguments of both operators, checked and taken apart; the tensors are dense and outlive it.
struct Call {
    Call(const Tensor& slab, const Tensor& state_numbers, const Tensor& rows, const Tensor& expert_ids)
        : state(data<int64_t>(state_numbers), state_numbers.numel()),
          slabs(data<std::byte>(slab), state.ranks(), state.slot_bytes()), rows_data(data<std::byte>(rows)),
          row_bytes(rows.size(1) * rows.element_size()), dtype(dtype_of(rows)), width(rows.size(1)) {
        STD_TORCH_CHECK(state.fits(), "state has ", state_numbers.numel(), " numbers");
        STD_TORCH_CHECK(slab.numel() == Slabs::bytes_for(state.ranks(), state.slot_bytes()), "slab has ", slab.numel(),
                        " bytes, not ", Slabs::bytes_for(state.ranks(), state.slot_bytes()));
        STD_TORCH_CHECK(expert_ids.scalar_type() == ScalarType::Long, "expert_ids are not int64");
        routing = {data<int64_t>(expert_ids), expert_ids.size(0), expert_ids.size(1),
                   state.rank_of(),           state.index_of(),   state.all_experts()};
        routing.check();
    }

    Head head(Kind kind) const { return {kind, width, dtype, routing.top_k, 0, 0, {}}; }

    State state;
    Slabs slabs;
    std::byte* rows_data;
    int64_t row_bytes, dtype, width;
    Routing routing;
};

// peer_dispatch(Tensor(a!) slab, Tensor(b!) state, Tensor x_TD, Tensor expert_ids_TK, Tensor weights_TK,
//               Tensor? rows_RD, Tensor? arrivals) -> (Tensor rows_RD, Tensor arrivals)
std::tuple<Tensor, Tensor> peer_dispatch(Tensor slab, Tensor state, Tensor x, Tensor expert_ids, Tensor weights,
                                         std::optional<Tensor> begun_rows, std::optional<Tensor> begun_arrivals) {
    x = dense(x), expert_ids = dense(expert_ids), weights = dense(weights);
    Call call(slab, state, x, expert_ids);
    STD_TORCH_CHECK(weights.scalar_type() == ScalarType::Float && weights.numel() == expert_ids.numel() &&
                        x.size(0) == expert_ids.size(0),
                    "x_TD, expert_ids_TK and weights_TK do not belong together");
    const int64_t ranks = call.state.ranks(), top_k = call.routing.top_k;
    const bool fresh = call.state.stage() < kMet;
    Dispatch dispatch(call.slabs, call.state, call.head(kDispatch), call.routing, call.rows_data, call.row_bytes,
                      data<float>(weights));
    if (!dispatch.meet())
        return {new_tensor(int32_t(call.dtype), int64_t(0), call.width),
                new_tensor(aoti_torch_dtype_int32(), int64_t(0))};
    const int64_t length = Arrivals::length(ranks, dispatch.arriving_tokens(), top_k);
    Tensor rows = fresh ? new_tensor(int32_t(call.dtype), dispatch.arriving_rows(), call.width) : begun_rows.value();
    Tensor arrivals = fresh ? new_tensor(aoti_torch_dtype_int32(), length) : begun_arrivals.value();
    dispatch.move(data<std::byte>(rows), Arrivals(data<int32_t>(arrivals), ranks, top_k));
    return {rows, arrivals};
}

// peer_combine(Tensor(a!) slab, Tensor(b!) state, Tensor rows_RD, Tensor arrivals, Tensor expert_ids_TK,
//              bool merged, bool weighted, Tensor? out) -> Tensor
Tensor peer_combine(Tensor slab, Tensor state, Tensor rows, Tensor arrivals, Tensor expert_ids, bool merged,
                    bool weighted, std::optional<Tensor> begun) {
    rows = dense(rows), expert_ids = dense(expert_ids);
    Call call(slab, state, rows, expert_ids);
    STD_TORCH_CHECK(!merged || (rows.scalar_type() == ScalarType::Float && call.routing.top_k <= 2),
                    "only float32 results of a top-k of 1 or 2 can be merged");
    const int64_t items = call.routing.tokens * (merged ? 1 : call.routing.top_k);
    Tensor out = begun.has_value() ? *begun : new_tensor(int32_t(call.dtype), items, call.width);
    Combine combine(call.slabs, call.state, call.head(kCombine), call.routing, call.rows_data, call.row_bytes,
                    Arrivals(data<int32_t>(arrivals), call.state.ranks(), call.routing.top_k), merged, weighted);
    combine.move(data<std::byte>(out));
    return out;
}

// peer_segment_bytes(int ranks, int slot_bytes) -> int
int64_t peer_segment_bytes(int64_t ranks, int64_t slot_bytes) { return Slabs::bytes_for(ranks, slot_bytes); }

// peer_state_length(int ranks, int all_experts) -> int
int64_t peer_state_length(int64_t ranks, int64_t all_experts) { return State::length_for(ranks, all_experts); }

}  // namespace
}  // namespace mixtralkit::peer

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CPU, m) {
    m.impl("peer_dispatch", TORCH_BOX(&mixtralkit::peer::peer_dispatch));
    m.impl("peer_combine", TORCH_BOX(&mixtralkit::peer::peer_combine));
}

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("peer_segment_bytes", TORCH_BOX(&mixtralkit::peer::peer_segment_bytes));
    m.impl("peer_state_length", TORCH_BOX(&mixtralkit::peer::peer_state_length));
}

#endif  // __linux__
