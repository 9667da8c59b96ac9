#include "cpu/gate.h"

#include <algorithm>
#include <vector>

#include <torch/headeronly/util/Exception.h>

#include "cpu/kernels.h"
#include "cpu/tasks.h"

namespace mixtralkit {
namespace {

// NaN counts as the greatest, as it does for torch.topk.
bool comes_before(float a, float b) { return a > b || (a != a && b == b); }

void choose(const Kernels& run, const float* logits, std::int64_t experts, std::int64_t top_k, std::int64_t* ids,
            float* weights) {
    for (std::int64_t k = 0; k < top_k; ++k) {
        std::int64_t best = -1;
        for (std::int64_t e = 0; e < experts; ++e) {
            bool taken = false;
            for (std::int64_t before = 0; before < k; ++before) taken |= ids[before] == e;
            if (!taken && (best < 0 || comes_before(logits[e], logits[best]))) best = e;
        }
        ids[k] = best;
        weights[k] = logits[best] - logits[ids[0]];
    }
    run.exponential(weights, top_k, weights);
    float total = 0.0f;
    for (std::int64_t k = 0; k < top_k; ++k) total += weights[k];
    for (std::int64_t k = 0; k < top_k; ++k) weights[k] /= total;
}

void check_permutation(const std::int64_t* values, std::int64_t count, const char* what) {
    std::vector<bool> seen(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t value = values[i];
        STD_TORCH_CHECK(0 <= value && value < count && !seen[static_cast<std::size_t>(value)], what,
                        " must have each number below ", count, " once; ", value, " is wrong");
        seen[static_cast<std::size_t>(value)] = true;
    }
}

}  // namespace

void choose_experts(const float* logits, std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                    std::int64_t* ids, float* weights) {
    const Kernels& run = kernels();
    for (std::int64_t t = 0; t < tokens; ++t) {
        choose(run, logits + t * experts, experts, top_k, ids + t * top_k, weights + t * top_k);
    }
}

void sort_by_expert(const std::int64_t* ids, std::int64_t pairs, const std::int64_t* order, std::int64_t experts,
                    std::int64_t* sorted, std::int64_t* counts) {
    std::vector<std::int64_t> place(static_cast<std::size_t>(experts)), next(static_cast<std::size_t>(experts) + 1);
    const auto at = [](std::vector<std::int64_t>& of, std::int64_t i) -> std::int64_t& {
        return of[static_cast<std::size_t>(i)];
    };
    check_permutation(order, experts, "the order of the experts");
    for (std::int64_t i = 0; i < experts; ++i) at(place, order[i]) = i, counts[i] = 0;
    for (std::int64_t p = 0; p < pairs; ++p) {
        STD_TORCH_CHECK(0 <= ids[p] && ids[p] < experts, "there is no expert ", ids[p], " among ", experts);
        ++counts[at(place, ids[p])];
    }
    for (std::int64_t i = 0; i < experts; ++i) at(next, i + 1) = at(next, i) + counts[i];
    for (std::int64_t p = 0; p < pairs; ++p) sorted[at(next, at(place, ids[p]))++] = p;
}

void copy_tokens(const float* x, std::int64_t tokens, const std::int64_t* pairs, std::int64_t count, std::int64_t top_k,
                 std::int64_t dim, float* rows) {
    each_task(pieces(count, kTokensPerTask), [&](std::int64_t task) {
        for (std::int64_t i = task * kTokensPerTask; i < std::min(count, (task + 1) * kTokensPerTask); ++i) {
            const std::int64_t pair = pairs[i];
            STD_TORCH_CHECK(0 <= pair && pair < tokens * top_k, "there is no pair ", pair, " of ", tokens, " tokens");
            std::copy_n(x + pair / top_k * dim, dim, rows + i * dim);
        }
    });
}

void add_results(const float* rows, const std::int64_t* pairs, const float* weights, std::int64_t tokens,
                 std::int64_t top_k, std::int64_t dim, const float* residual, float* y) {
    check_permutation(pairs, tokens * top_k, "the pairs");
    std::vector<std::int64_t> row_of(static_cast<std::size_t>(tokens * top_k));
    for (std::int64_t i = 0; i < tokens * top_k; ++i) row_of[static_cast<std::size_t>(pairs[i])] = i;
    each_task(pieces(tokens, kTokensPerTask), [&](std::int64_t task) {
        const std::int64_t last = std::min(tokens, (task + 1) * kTokensPerTask);
        for (std::int64_t t = task * kTokensPerTask; t < last; ++t) {
            float* to = y + t * dim;
            for (std::int64_t k = 0; k < top_k; ++k) {
                const float* row = rows + row_of[static_cast<std::size_t>(t * top_k + k)] * dim;
                const float weight = weights[t * top_k + k];
                // Unfused, so that partial sums formed where the experts are come to the same.
                for (std::int64_t i = 0; i < dim; ++i) to[i] = k == 0 ? row[i] * weight : to[i] + row[i] * weight;
            }
            for (std::int64_t i = 0; residual && i < dim; ++i) to[i] += residual[t * dim + i];
        }
    });
}

}  // namespace mixtralkit
