// From the gate's logits to rows in the order of their experts, and back.
#pragma once

#include <cstdint>

namespace mixtralkit {

// The top_k experts of each token, the greatest logit first and of equal ones the lowest id; their softmax.
void choose_experts(const float* logits, std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                    std::int64_t* ids, float* weights);

// Which flat (token, k) pair stands at each place when the pairs are sorted by the place of their expert in `order`,
// equal ones staying in order, and how many pairs each expert of `order` has. Throws unless
// `order` has every expert once and every id is one of them.
void sort_by_expert(const std::int64_t* ids, std::int64_t pairs, const std::int64_t* order, std::int64_t experts,
                    std::int64_t* sorted, std::int64_t* counts);

// rows[i] = the token of the flat pair pairs[i]. Throws for a pair that there is not.
void copy_tokens(const float* x, std::int64_t tokens, const std::int64_t* pairs, std::int64_t count, std::int64_t top_k,
                 std::int64_t dim, float* rows);

// y[t] = the sum of its rows, weighted, in the order of the gate's top-k, and residual[t] if that is given; rows[i]
// belongs to the flat pair pairs[i].
void add_results(const float* rows, const std::int64_t* pairs, const float* weights, std::int64_t tokens,
                 std::int64_t top_k, std::int64_t dim, const float* residual, float* y);

}  // namespace mixtralkit
