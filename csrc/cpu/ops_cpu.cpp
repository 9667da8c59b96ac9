// The operators on the CPU: what torch gives, checked and handed to the kernels.
#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "cpu/cached_attention.h"
#include "cpu/gate.h"
#include "cpu/kernels.h"
#include "cpu/products.h"
#include "cpu/rotation_angles.h"
#include "cpu/tasks.h"
#include "new_tensor.h"

namespace mixtralkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Kind float_kind(const Tensor& t) {
    switch (t.scalar_type()) {
    case ScalarType::Float:
        return Kind::float32;
    case ScalarType::BFloat16:
        return Kind::bfloat16;
    case ScalarType::Half:
        return Kind::float16;
    default:
        STD_TORCH_CHECK(false, "float32, bfloat16 or float16 is needed");
    }
}

void check_activations(const Tensor& x, int64_t dims) {
    STD_TORCH_CHECK(x.is_cpu() && x.scalar_type() == ScalarType::Float && x.is_contiguous() && x.dim() == dims,
                    "activations must be contiguous float32 on the CPU, of ", dims, " dimensions");
}

void check_ids(const Tensor& t) {
    STD_TORCH_CHECK(t.is_cpu() && t.scalar_type() == ScalarType::Long && t.is_contiguous(),
                    "indices must be contiguous int64 on the CPU");
}

template <class T>
const T* read(const Tensor& t) {
    return static_cast<const T*>(t.data_ptr());
}

template <class... Sizes>
Tensor new_floats(Sizes... sizes) {
    return new_tensor(aoti_torch_dtype_float32(), sizes...);
}

template <class... Sizes>
Tensor new_indices(Sizes... sizes) {
    return new_tensor(aoti_torch_dtype_int64(), sizes...);
}

float* write(const Tensor& t) { return static_cast<float*>(t.data_ptr()); }

// One of the matrices of a call: a float tensor [outputs, inputs], or the codes, scales and mins of a quantized one.
Matrix matrix_of(const std::vector<Tensor>& data, const std::vector<Tensor>& scales, const std::vector<Tensor>& mins,
                 std::size_t i, int64_t outputs, int64_t inputs) {
    const Tensor& t = data[i];
    STD_TORCH_CHECK(t.is_cpu() && t.is_contiguous() && t.dim() == 2, "a weight must be a contiguous matrix on the CPU");
    if (scales.empty()) {
        STD_TORCH_CHECK(t.size(0) == outputs && t.size(1) == inputs, "a weight of [", outputs, ", ", inputs,
                        "] is needed, not [", t.size(0), ", ", t.size(1), "]");
        return {float_kind(t), t.data_ptr(), nullptr, nullptr, outputs, inputs};
    }
    const Kind kind = mins.empty() ? Kind::int8 : Kind::int4;
    const int64_t blocks = pieces(outputs, kBlock), row_bytes = inputs * kBlock / (kind == Kind::int4 ? 2 : 1);
    STD_TORCH_CHECK(inputs % kGroup == 0, inputs, " inputs are no multiple of the group of ", kGroup);
    STD_TORCH_CHECK(t.scalar_type() == ScalarType::Byte && t.size(0) == blocks && t.size(1) == row_bytes,
                    "codes of uint8 [", blocks, ", ", row_bytes, "] are needed");
    for (const auto* factors : {&scales, &mins}) {
        if (factors->empty()) continue;
        const Tensor& f = (*factors)[i];
        STD_TORCH_CHECK(f.is_cpu() && f.is_contiguous() && f.scalar_type() == ScalarType::Half &&
                            f.numel() == blocks * kBlock * (inputs / kGroup),
                        "scales and mins of float16, ", blocks * kBlock * (inputs / kGroup), " of each, are needed");
    }
    const auto* min_bits = mins.empty() ? nullptr : read<Fp16>(mins[i]);
    return {kind, t.data_ptr(), read<Fp16>(scales[i]), min_bits, outputs, inputs};
}

void check_lists(const std::vector<Tensor>& data, const std::vector<Tensor>& scales, const std::vector<Tensor>& mins) {
    for (const auto* factors : {&scales, &mins}) {
        STD_TORCH_CHECK(factors->empty() || factors->size() == data.size(), factors->size(),
                        " scales or mins do not go with ", data.size(), " matrices");
    }
    STD_TORCH_CHECK(mins.empty() || !scales.empty(), "mins go with scales");
}

void check_norm(const Tensor& weight, int64_t inputs) {
    STD_TORCH_CHECK(weight.is_cpu() && weight.is_contiguous() && weight.numel() == inputs, "a norm's weight of ",
                    inputs, " is needed");
}

Tensor linear(Tensor x, std::vector<Tensor> data, std::vector<Tensor> scales, std::vector<Tensor> mins,
              std::vector<int64_t> outputs, std::optional<Tensor> norm, double eps, std::optional<Tensor> residual) {
    check_activations(x, 2);
    if (norm) check_norm(*norm, x.size(1));
    check_lists(data, scales, mins);
    STD_TORCH_CHECK(!data.empty() && outputs.size() == data.size(), "the outputs of each of the matrices are needed");
    std::vector<Matrix> weights;
    int64_t width = 0;
    for (std::size_t i = 0; i < data.size(); width += outputs[i++]) {
        weights.push_back(matrix_of(data, scales, mins, i, outputs[i], x.size(1)));
        STD_TORCH_CHECK(weights[i].kind == weights[0].kind, "the weights of one call must be of one kind");
    }
    if (residual) {
        check_activations(*residual, 2);
        STD_TORCH_CHECK(residual->size(0) == x.size(0) && residual->size(1) == width, "a residual of [", x.size(0),
                        ", ", width, "] is needed");
    }
    Tensor y = new_floats(x.size(0), width);
    const auto before = norm ? Norm{float_kind(*norm), norm->data_ptr(), static_cast<float>(eps)} : Norm{};
    multiply(read<float>(x), x.size(0), weights, norm ? &before : nullptr, residual ? read<float>(*residual) : nullptr,
             write(y));
    return y;
}

// Those of the experts that have rows. The lists hold w1, w2, w3 of the first expert, then those of the next.
std::vector<Expert> experts_of(const std::vector<int64_t>& counts, const std::vector<Tensor>& data,
                               const std::vector<Tensor>& scales, const std::vector<Tensor>& mins, int64_t hidden,
                               int64_t dim) {
    check_lists(data, scales, mins);
    STD_TORCH_CHECK(data.size() == 3 * counts.size(), "three weights are needed for each of ", counts.size(),
                    " experts");
    std::vector<Expert> experts;
    for (std::size_t e = 0; e < counts.size(); ++e) {
        STD_TORCH_CHECK(counts[e] >= 0, "expert ", e, " cannot have ", counts[e], " rows");
        if (counts[e] == 0) continue;
        const auto weight = [&](std::size_t which, int64_t outputs, int64_t inputs) {
            return matrix_of(data, scales, mins, 3 * e + which, outputs, inputs);
        };
        experts.push_back({weight(0, hidden, dim), weight(1, dim, hidden), weight(2, hidden, dim), counts[e]});
    }
    for (const Expert& expert : experts) {
        for (const Matrix& weight : {expert.w1, expert.w2, expert.w3}) {
            STD_TORCH_CHECK(weight.kind == experts[0].w1.kind, "the weights of one call must be of one kind");
        }
    }
    return experts;
}

Tensor expert_mlp_op(Tensor rows, std::vector<int64_t> counts, std::vector<Tensor> data, std::vector<Tensor> scales,
                     std::vector<Tensor> mins, int64_t hidden) {
    check_activations(rows, 2);
    const int64_t dim = rows.size(1);
    const std::vector<Expert> experts = experts_of(counts, data, scales, mins, hidden, dim);
    int64_t total = 0;
    for (const int64_t count : counts) total += count;
    STD_TORCH_CHECK(total == rows.size(0), "the counts add up to ", total, ", not to the ", rows.size(0),
                    " rows given");
    Tensor y = new_floats(rows.size(0), dim);
    expert_mlp(read<float>(rows), experts, write(y));
    return y;
}

Tensor rms_norm(Tensor x, Tensor weight, double eps) {
    check_activations(x, 2);
    check_norm(weight, x.size(1));
    Tensor y = new_floats(x.size(0), x.size(1));
    const int64_t rows = x.size(0), dim = x.size(1), per_task = rows_per_small_task(dim);
    const Kind kind = float_kind(weight);
    const Kernels& run = kernels();
    const float* from = read<float>(x);
    float* to = write(y);
    const void* factors = weight.data_ptr();
    each_task(pieces(rows, per_task), [&](int64_t task) {
        for (int64_t r = task * per_task; r < std::min(rows, (task + 1) * per_task); ++r) {
            run.rms_norm(kind, from + r * dim, factors, dim, static_cast<float>(eps), to + r * dim);
        }
    });
    return y;
}

// The segments of a batch, whose blocks are all there.
std::vector<Segment> segments_of(const Tensor& segments, const Tensor& tables, const CacheShape& shape) {
    check_ids(segments);
    check_ids(tables);
    STD_TORCH_CHECK(segments.dim() == 2 && segments.size(1) == 2, "start and length of each segment are needed");
    STD_TORCH_CHECK(tables.dim() == 2 && tables.size(0) == segments.size(0), "a block table a segment is needed");
    const int64_t room = tables.size(1) * shape.block_size;
    std::vector<Segment> found;
    int64_t row = 0;
    for (int64_t i = 0; i < segments.size(0); ++i) {
        const int64_t *table = read<int64_t>(tables) + i * tables.size(1), *s = read<int64_t>(segments) + 2 * i;
        STD_TORCH_CHECK(s[0] >= 0 && s[1] >= 0 && s[0] <= room && s[1] <= room - s[0], "a segment of ", s[1],
                        " tokens at ", s[0], " does not fit its table of ", tables.size(1), " blocks of ",
                        shape.block_size, " positions");
        for (int64_t j = 0; j < pieces(s[0] + s[1], shape.block_size); ++j)
            STD_TORCH_CHECK(table[j] >= 0 && table[j] < shape.blocks, "there is no block ", table[j], " in a cache of ",
                            shape.blocks, ": entry ", j, " in the table of segment ", i);
        found.push_back({table, s[0], s[1], row});
        row += s[1];
    }
    return found;
}

Tensor attention(Tensor qkv, Tensor keys, Tensor values, Tensor segments, Tensor tables, Tensor cos, Tensor sin,
                 int64_t heads, int64_t window) {
    check_activations(qkv, 2);
    for (const Tensor& t : {cos, sin})
        STD_TORCH_CHECK(t.is_contiguous() && t.scalar_type() == ScalarType::Float, "float32 angles are needed");
    for (const Tensor& t : {keys, values})
        STD_TORCH_CHECK(t.is_cpu() && t.is_contiguous() && t.dim() == 4,
                        "a cache of [blocks, G, block_size, d] is needed");
    const CacheShape shape{float_kind(keys), keys.size(0), keys.size(1), keys.size(2), keys.size(3)};
    for (int64_t i = 0; i < 4; ++i)
        STD_TORCH_CHECK(values.size(i) == keys.size(i), "keys and values must be of one shape");
    STD_TORCH_CHECK(shape.kv_heads > 0 && shape.head_dim > 0 && shape.head_dim % 2 == 0 && heads > 0 && window > 0,
                    "pairs, heads and a window are needed");
    STD_TORCH_CHECK(shape.block_size > 0 && (kChunk % shape.block_size == 0 || shape.block_size % kChunk == 0),
                    "blocks of ", shape.block_size, " positions are no divisor and no multiple of ", kChunk);
    STD_TORCH_CHECK(float_kind(values) == shape.kind, "keys and values must be of one dtype");
    STD_TORCH_CHECK(qkv.size(1) == (heads + 2 * shape.kv_heads) * shape.head_dim,
                    "queries, keys and values do not fit the cache");
    STD_TORCH_CHECK(heads % shape.kv_heads == 0, heads, " heads cannot share ", shape.kv_heads, " KV heads");
    STD_TORCH_CHECK(cos.numel() == qkv.size(0) * shape.head_dim / 2 && sin.numel() == cos.numel(),
                    "an angle a pair is needed");
    const std::vector<Segment> parts = segments_of(segments, tables, shape);
    const int64_t tokens = parts.empty() ? 0 : parts.back().row + parts.back().length;
    STD_TORCH_CHECK(tokens == qkv.size(0), "the segments have ", tokens, " tokens, not ", qkv.size(0));
    Tensor out = new_floats(tokens, heads * shape.head_dim);
    cached_attention({read<float>(qkv), read<float>(cos), read<float>(sin), heads, window}, parts, shape,
                     keys.data_ptr(), values.data_ptr(), write(out));
    return out;
}

std::tuple<Tensor, Tensor> rotations(Tensor positions, int64_t head_dim, double theta) {
    check_ids(positions);
    STD_TORCH_CHECK(head_dim > 0 && head_dim % 2 == 0, "a head of ", head_dim, " elements has no pairs");
    const int64_t tokens = positions.numel(), half = head_dim / 2;
    Tensor cos = new_floats(tokens, half), sin = new_floats(tokens, half);
    rotation_angles(read<int64_t>(positions), tokens, head_dim, theta, write(cos), write(sin));
    return {cos, sin};
}

std::tuple<Tensor, Tensor> choice_of(const float* logits, int64_t tokens, int64_t experts, int64_t top_k) {
    STD_TORCH_CHECK(0 < top_k && top_k <= experts, "top ", top_k, " of ", experts, " experts");
    Tensor ids = new_indices(tokens, top_k), weights = new_floats(tokens, top_k);
    choose_experts(logits, tokens, experts, top_k, static_cast<int64_t*>(ids.data_ptr()), write(weights));
    return {ids, weights};
}

std::tuple<Tensor, Tensor> topk_gate(Tensor logits, int64_t top_k) {
    check_activations(logits, 2);
    return choice_of(read<float>(logits), logits.size(0), logits.size(1), top_k);
}

std::tuple<Tensor, Tensor> linear_gate(Tensor x, Tensor weight, int64_t top_k) {
    check_activations(x, 2);
    const int64_t tokens = x.size(0), experts = weight.size(0);
    const Scratch logits(tokens * experts * 4);
    multiply(read<float>(x), tokens, {matrix_of({weight}, {}, {}, 0, experts, x.size(1))}, nullptr, nullptr,
             logits.floats());
    return choice_of(logits.floats(), tokens, experts, top_k);
}

std::tuple<Tensor, Tensor> expert_sort(Tensor ids, Tensor order) {
    check_ids(ids);
    check_ids(order);
    Tensor pairs = new_indices(ids.numel()), counts = new_indices(order.numel());
    sort_by_expert(read<int64_t>(ids), ids.numel(), read<int64_t>(order), order.numel(),
                   static_cast<int64_t*>(pairs.data_ptr()), static_cast<int64_t*>(counts.data_ptr()));
    return {pairs, counts};
}

Tensor take_rows(Tensor x, Tensor pairs, int64_t top_k) {
    check_activations(x, 2);
    check_ids(pairs);
    STD_TORCH_CHECK(top_k > 0, "top ", top_k);
    Tensor y = new_floats(pairs.numel(), x.size(1));
    copy_tokens(read<float>(x), x.size(0), read<int64_t>(pairs), pairs.numel(), top_k, x.size(1), write(y));
    return y;
}

Tensor sum_rows(Tensor rows, Tensor pairs, Tensor weights) {
    check_activations(rows, 2);
    check_activations(weights, 2);
    check_ids(pairs);
    const int64_t tokens = weights.size(0), top_k = weights.size(1), dim = rows.size(1);
    STD_TORCH_CHECK(top_k > 0 && rows.size(0) == tokens * top_k && pairs.numel() == tokens * top_k,
                    "a row for each of ", tokens * top_k, " pairs is needed");
    Tensor y = new_floats(tokens, dim);
    add_results(read<float>(rows), read<int64_t>(pairs), read<float>(weights), tokens, top_k, dim, nullptr, write(y));
    return y;
}

Tensor attention_block(Tensor x, Tensor norm, double eps, std::vector<Tensor> qkv_data, std::vector<Tensor> qkv_scales,
                       std::vector<Tensor> qkv_mins, std::vector<int64_t> qkv_outputs, Tensor keys, Tensor values,
                       Tensor segments, Tensor tables, Tensor cos, Tensor sin, int64_t heads, int64_t window,
                       std::vector<Tensor> out_data, std::vector<Tensor> out_scales, std::vector<Tensor> out_mins) {
    // Checked before the cache is written.
    check_activations(x, 2);
    check_lists(out_data, out_scales, out_mins);
    STD_TORCH_CHECK(out_data.size() == 1 && keys.dim() == 4,
                    "one output matrix and a cache of 4 dimensions are needed");
    matrix_of(out_data, out_scales, out_mins, 0, x.size(1), heads * keys.size(3));
    Tensor qkv = linear(x, qkv_data, qkv_scales, qkv_mins, qkv_outputs, norm, eps, std::nullopt);
    Tensor attended = attention(qkv, keys, values, segments, tables, cos, sin, heads, window);
    return linear(attended, out_data, out_scales, out_mins, {x.size(1)}, std::nullopt, 0.0, x);
}

std::tuple<Tensor, Tensor> moe_block(Tensor x, Tensor norm, double eps, Tensor gate, int64_t top_k,
                                     std::vector<Tensor> data, std::vector<Tensor> scales, std::vector<Tensor> mins,
                                     int64_t hidden) {
    Tensor normed = rms_norm(x, norm, eps);
    auto [ids, weights] = linear_gate(normed, gate, top_k);
    const int64_t tokens = x.size(0), dim = x.size(1), pairs = tokens * top_k, num_experts = gate.size(0);
    std::vector<int64_t> order(static_cast<std::size_t>(num_experts)), counts(order.size());
    std::iota(order.begin(), order.end(), 0);
    std::vector<int64_t> sorted(static_cast<std::size_t>(pairs));
    sort_by_expert(read<int64_t>(ids), pairs, order.data(), num_experts, sorted.data(), counts.data());
    const std::vector<Expert> experts = experts_of(counts, data, scales, mins, hidden, dim);
    const Scratch rows(pairs * dim * 4), results(pairs * dim * 4);
    copy_tokens(read<float>(normed), tokens, sorted.data(), pairs, top_k, dim, rows.floats());
    expert_mlp(rows.floats(), experts, results.floats());
    Tensor y = new_floats(tokens, dim);
    add_results(results.floats(), sorted.data(), read<float>(weights), tokens, top_k, dim, read<float>(x), write(y));
    return {y, ids};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CPU, m) {
    m.impl("linear", TORCH_BOX(&linear));
    m.impl("expert_mlp", TORCH_BOX(&expert_mlp_op));
    m.impl("rms_norm", TORCH_BOX(&rms_norm));
    m.impl("attention", TORCH_BOX(&attention));
    m.impl("rotations", TORCH_BOX(&rotations));
    m.impl("topk_gate", TORCH_BOX(&topk_gate));
    m.impl("linear_gate", TORCH_BOX(&linear_gate));
    m.impl("expert_sort", TORCH_BOX(&expert_sort));
    m.impl("take_rows", TORCH_BOX(&take_rows));
    m.impl("sum_rows", TORCH_BOX(&sum_rows));
    m.impl("attention_block", TORCH_BOX(&attention_block));
    m.impl("moe_block", TORCH_BOX(&moe_block));
}

}  // namespace mixtralkit
