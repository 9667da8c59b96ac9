// The four steps as operators: tensors on one side, the protocol on the other. `Run` runs a step, on the host or on the
// device; all results are made by the caller, so that nothing here depends on where memory comes from.
#pragma once

#include <algorithm>
#include <optional>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "split/combine_receive.h"
#include "split/combine_send.h"
#include "split/dispatch_send.h"

namespace mixtralkit::split {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Teams of a step, at most. Few enough to leave room for others on the device while they wait for another rank.
constexpr int64_t kMostTeams = 256;

template <class T>
T* data(const Tensor& x, ScalarType type, const char* name) {
    STD_TORCH_CHECK(x.scalar_type() == type && x.is_contiguous(), name, " must be contiguous, of another type");
    return static_cast<T*>(x.data_ptr());
}
inline int64_t* longs(const Tensor& x, const char* name) { return data<int64_t>(x, ScalarType::Long, name); }
inline int32_t* ints(const Tensor& x, const char* name) { return data<int32_t>(x, ScalarType::Int, name); }

inline std::byte* row_data(const Tensor& rows) {
    STD_TORCH_CHECK(rows.is_contiguous() && rows.dim() == 2, "rows must be contiguous and of two dimensions");
    return static_cast<std::byte*>(rows.data_ptr());
}

// `config`, on the host: rank, ranks, all experts, bytes of a region of rows and of results, nanoseconds to wait,
// whether rows travel in 8 bits; then the addresses of all slabs.
class Config {
  public:
    explicit Config(const Tensor& config) : numbers_(longs(config, "config")) {
        STD_TORCH_CHECK(config.is_cpu() && config.numel() > kFixed && config.numel() == kFixed + numbers_[1],
                        "config has ", config.numel(), " numbers");
        STD_TORCH_CHECK(numbers_[1] <= kMaxRanks, "there are ", numbers_[1], " ranks, more than ", kMaxRanks);
    }

    Exchange exchange(const Tensor& own, const Tensor& report) const {
        STD_TORCH_CHECK(own.numel() == kOwnNumbers && report.numel() == kReportNumbers, "own has ", own.numel(),
                        " numbers, report ", report.numel());
        Exchange exchange{{{}, numbers_[1], numbers_[3], numbers_[4]},
                          numbers_[0],
                          numbers_[5],
                          longs(own, "own"),
                          longs(report, "report")};
        for (int64_t rank = 0; rank < numbers_[1]; ++rank)
            exchange.slabs.slab[rank] = reinterpret_cast<std::byte*>(numbers_[kFixed + rank]);
        return exchange;
    }

    Shape shape(int64_t width, int64_t element_bytes, int64_t dtype, int64_t top_k) const {
        Shape shape{numbers_[2], width, element_bytes, dtype, top_k, numbers_[6], 0};
        STD_TORCH_CHECK(element_bytes == (dtype == 6 ? 4 : 2) && (dtype == 5 || dtype == 6 || dtype == 15),
                        "rows must be float32, bfloat16 or float16");
        shape.capacity = shape.capacity_within(numbers_[3], numbers_[4]);
        STD_TORCH_CHECK(shape.capacity > 0, "not even one token of ", top_k, " rows of ", shape.row_bytes(),
                        " bytes fits into regions of ", numbers_[3], " and ", numbers_[4], " bytes");
        return shape;
    }
    Shape shape_of(const Tensor& rows, int64_t top_k) const {
        int32_t dtype;
        STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(rows.get(), &dtype));
        return shape(rows.size(1), int64_t(rows.element_size()), dtype, top_k);
    }

    // `routes`: by expert the rank that gets its rows, then its number there, then this rank's experts.
    int64_t experts_here(const Tensor& routes) const { return routes.numel() - 2 * numbers_[2]; }
    const int32_t* mine(const Tensor& routes) const { return ints(routes, "routes") + 2 * numbers_[2]; }
    Routes routes(const Tensor& numbers) const {
        STD_TORCH_CHECK(experts_here(numbers) >= 0, "routes have ", numbers.numel(), " numbers");
        return {ints(numbers, "routes"), ints(numbers, "routes") + numbers_[2]};
    }
    int64_t ranks() const { return numbers_[1]; }

  private:
    static constexpr int64_t kFixed = 7;

    const int64_t* numbers_;
};

template <class Run>
void dispatch_send(Tensor config, Tensor own, Tensor report, Tensor x, Tensor expert_ids, Tensor routes,
                   int64_t all_tokens, Tensor ticket, int64_t stream) {
    const Config given(config);
    STD_TORCH_CHECK(expert_ids.dim() == 2 && expert_ids.size(0) == x.size(0), "x_TD and expert_ids_TK differ in T");
    const Shape shape = given.shape_of(x, expert_ids.size(1));
    STD_TORCH_CHECK(x.size(0) <= shape.capacity, x.size(0), " tokens are more than the ", shape.capacity, " that fit");
    const DispatchSend step{
        given.exchange(own, report),        shape,     given.routes(routes), row_data(x),
        longs(expert_ids, "expert_ids_TK"), x.size(0), all_tokens,           longs(ticket, "ticket")};
    Run::run(step, std::clamp<int64_t>(x.size(0), 1, kMostTeams), stream);
}

template <class Run>
void dispatch_receive(Tensor config, Tensor own, Tensor report, Tensor ticket, Tensor routes, int64_t top_k,
                      int64_t expected_tokens, Tensor rows, Tensor origins, Tensor counts, Tensor told,
                      int64_t stream) {
    const Config given(config);
    const int64_t experts = given.experts_here(routes), ranks = given.ranks(), room = rows.size(0);
    STD_TORCH_CHECK(experts * ranks <= kScratch, experts, " experts of a rank times ", ranks, " ranks are more than ",
                    kScratch);
    STD_TORCH_CHECK(counts.numel() == experts && told.numel() == (1 + experts) * ranks && origins.numel() >= room,
                    "counts, told and origins are of other sizes");
    const DispatchReceive step{given.exchange(own, report),
                               given.shape_of(rows, top_k),
                               given.mine(routes),
                               experts,
                               longs(ticket, "ticket"),
                               expected_tokens,
                               room,
                               row_data(rows),
                               ints(origins, "origins_R"),
                               longs(counts, "counts_e"),
                               longs(told, "told")};
    Run::run(step, std::clamp<int64_t>(room, 1, kMostTeams), stream);
}

template <class Run>
void combine_send(Tensor config, Tensor own, Tensor report, Tensor rows, Tensor origins, Tensor counts, int64_t top_k,
                  Tensor ticket, int64_t stream) {
    const Config given(config);
    const CombineSend step{given.exchange(own, report), given.shape_of(rows, top_k), row_data(rows),
                           ints(origins, "origins_R"),  longs(counts, "counts_e"),   counts.numel(),
                           longs(ticket, "ticket")};
    Run::run(step, std::clamp<int64_t>(rows.size(0), 1, kMostTeams), stream);
}

template <class Run>
void combine_receive(Tensor config, Tensor own, Tensor report, Tensor ticket, std::optional<Tensor> weights,
                     int64_t top_k, Tensor out, int64_t stream) {
    const Config given(config);
    const int64_t tokens = weights.has_value() ? out.size(0) : out.size(0) / top_k;
    STD_TORCH_CHECK(!weights.has_value() || weights->numel() == tokens * top_k, "weights_TK are of another size");
    const float* const factors = weights.has_value() ? data<float>(*weights, ScalarType::Float, "weights_TK") : nullptr;
    const Shape shape = given.shape_of(out, top_k);
    STD_TORCH_CHECK(tokens <= shape.capacity, tokens, " tokens are more than the ", shape.capacity, " that fit");
    const CombineReceive step{
        given.exchange(own, report), shape, longs(ticket, "ticket"), tokens, factors, row_data(out)};
    Run::run(step, std::clamp<int64_t>(tokens, 1, kMostTeams), stream);
}

// Register them for the device of `Run`.
template <class Run, class Library>
void register_steps(Library& m) {
    m.impl("dispatch_send", TORCH_BOX(&dispatch_send<Run>));
    m.impl("dispatch_receive", TORCH_BOX(&dispatch_receive<Run>));
    m.impl("combine_send", TORCH_BOX(&combine_send<Run>));
    m.impl("combine_receive", TORCH_BOX(&combine_receive<Run>));
}

}  // namespace mixtralkit::split
