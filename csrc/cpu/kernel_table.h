// The table of one variant, made of the templates with its lanes. Included by kernels_*.cpp after the lanes.
#pragma once

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/float_product.h"
#include "cpu/quantized_product.h"

namespace mixtralkit {
namespace {

// Calls call(Dot{}) with the way in which rows are multiplied by a float kind. `Bf16Dot` is the variant's for bfloat16.
template <class Bf16Dot, class Call>
inline void with_dot(Kind kind, Call call) {
    switch (kind) {
    case Kind::bfloat16:
        return call(Bf16Dot{});
    case Kind::float16:
        return call(Floats<Fp16>{});
    default:
        return call(Floats<float>{});
    }
}

template <class Call>
inline void with_number(Kind kind, Call call) {
    switch (kind) {
    case Kind::bfloat16:
        return call(Bf16{});
    case Kind::float16:
        return call(Fp16{});
    default:
        return call(0.0f);
    }
}

inline bool is_quantized(Kind kind) { return kind == Kind::int8 || kind == Kind::int4; }

template <class Bf16Dot>
std::int64_t ready_bytes(Kind kind, std::int64_t inputs) {
    if (is_quantized(kind)) return QuantizedRow::nbytes(inputs);
    std::int64_t result = 0;
    with_dot<Bf16Dot>(
        kind, [&]<class Dot>(Dot) { result = inputs * static_cast<std::int64_t>(sizeof(typename Dot::Input)); });
    return result;
}

template <class Bf16Dot>
void make_ready(Kind kind, const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t begin,
                std::int64_t end, std::int64_t inputs, void* ready) {
    for (std::int64_t r = 0; r < rows; ++r, x += x_stride) {
        if (is_quantized(kind)) {
            const QuantizedRow row = QuantizedRow::at(ready, r, inputs);
            for (std::int64_t g = begin / kGroup; g < end / kGroup; ++g) quantize_group(x + g * kGroup - begin, row, g);
        } else {
            with_dot<Bf16Dot>(kind, [&]<class Dot>(Dot) {
                convert(x, end - begin, static_cast<typename Dot::Input*>(ready) + r * inputs + begin);
            });
        }
    }
}

template <class Bf16Dot>
void product(const Matrix& w, const void* ready, std::int64_t rows, std::int64_t begin, std::int64_t end, float* y,
             std::int64_t y_stride) {
    if (w.kind == Kind::int8) return quantized_product<Int8>(ready, rows, w, begin, end, y, y_stride);
    if (w.kind == Kind::int4) return quantized_product<Int4>(ready, rows, w, begin, end, y, y_stride);
    with_dot<Bf16Dot>(w.kind, [&]<class Dot>(Dot) {
        const auto* weights = static_cast<const typename Dot::Weight*>(w.data) + begin * w.inputs;
        float_product<Dot>(ready, rows, weights, end - begin, w.inputs, y, y_stride);
    });
}

void rms_norm_of(Kind kind, const float* x, const void* weight, std::int64_t count, float eps, float* y) {
    with_number(kind, [&]<class Number>(Number) { rms_norm(x, static_cast<const Number*>(weight), count, eps, y); });
}

void convert_to(Kind kind, const float* x, std::int64_t count, void* y) {
    with_number(kind, [&]<class Number>(Number) { convert(x, count, static_cast<Number*>(y)); });
}

std::int64_t attention_scratch(std::int64_t rows) {
    return rows * static_cast<std::int64_t>(sizeof(Running) + kChunk * sizeof(float));
}

void attend_to(Kind kind, const AttentionTask& task, const float* queries, float* out, void* scratch) {
    with_number(kind, [&]<class Number>(Number) { attend<Number>(task, queries, out, scratch); });
}

void exponential_of(const float* x, std::int64_t count, float* y) {
    for (std::int64_t i = 0; i < count; ++i) store_first(y + i, 1, exponential(load_first(x + i, 1)));
}

template <class Bf16Dot>
constexpr Kernels make_table() {
    return {
        .ready_bytes = ready_bytes<Bf16Dot>,
        .make_ready = make_ready<Bf16Dot>,
        .product = product<Bf16Dot>,
        .swiglu = swiglu,
        .rms_norm = rms_norm_of,
        .rotate = rotate,
        .convert = convert_to,
        .attention_scratch = attention_scratch,
        .attend = attend_to,
        .exponential = exponential_of,
    };
}

}  // namespace
}  // namespace mixtralkit
