// Products with several rows and matrices, spread over threads.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/matrix.h"

namespace mixtralkit {

// The norm that rows go through before a product; the weight has a number for each input.
struct Norm {
    Kind kind;
    const void* weight;
    float eps;
};

// y[r] = residual[r] + norm(x[r]) times every one of `weights`, which have the same kind and inputs; the products lie
// one after the other. Without a norm or a residual where those are null.
void multiply(const float* x, std::int64_t rows, const std::vector<Matrix>& weights, const Norm* norm,
              const float* residual, float* y);

// The weights of one SwiGLU expert and how many of the consecutive rows are its.
struct Expert {
    Matrix w1, w2, w3;
    std::int64_t rows;
};

// y = (silu(x w1) * (x w3)) w2, row by row, for the experts' rows one after the other.
void expert_mlp(const float* x, const std::vector<Expert>& experts, float* y);

}  // namespace mixtralkit
