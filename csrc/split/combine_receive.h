// A token's K results, added up at home: weighted, in float32, in the order of its top-k, and rounded once. Without
// weights the results are handed out as they are.
#pragma once

#include "split/exchange.h"
#include "split/rows.h"

namespace mixtralkit::split {

struct CombineReceive {
    Exchange at;
    Shape shape;
    const int64_t* ticket;
    int64_t tokens;
    const float* weights;  // [T, K], or null
    std::byte* out;        // [T, row_bytes], or without weights [T * K, row_bytes]

    template <class Team>
    MIXTRALKIT_BOTH void operator()(const Team& team) const {
        const bool good = !at.failed(team) && at.await(team, kResultsSent, *ticket);
        for (int64_t token = team.block(); token < tokens; token += team.blocks()) {
            if (good)
                bring(team, token);
            else
                spoil(team, token);
        }
        if (good && team.last(at.own + kDone + 3)) at.tell_all(team, kResultsRead, *ticket);
    }

  private:
    MIXTRALKIT_BOTH const std::byte* result(int64_t token, int64_t k) const {
        return at.slabs.results(at.rank, *ticket) + (token * shape.top_k + k) * shape.result_stride();
    }

    template <class Team>
    MIXTRALKIT_BOTH void bring(const Team& team, int64_t token) const {
        if (weights != nullptr)
            return with_number(shape.dtype, [&](auto number) { add_up<decltype(number)>(team, token); });
        for (int64_t k = 0; k < shape.top_k; ++k)
            copy_row(team, out + (token * shape.top_k + k) * shape.row_bytes(), result(token, k), shape.row_bytes());
    }

    template <class Number, class Team>
    MIXTRALKIT_BOTH void add_up(const Team& team, int64_t token) const {
        constexpr int64_t kWide = kUnit / int64_t(sizeof(Number));
        std::byte* const to = out + token * shape.row_bytes();
        if (aligned(to) && shape.width % kWide == 0)
            add_pieces<Number, kWide>(team, token, to);
        else
            add_pieces<Number, 1>(team, token, to);
    }

    template <class Number, int64_t kWide, class Team>
    MIXTRALKIT_BOTH void add_pieces(const Team& team, int64_t token, std::byte* to) const {
        struct alignas(sizeof(Number) * kWide) Piece {
            Number numbers[kWide];
        };
        for (int64_t i = team.thread(); i < shape.width / kWide; i += team.threads()) {
            float sums[kWide] = {};
            for (int64_t k = 0; k < shape.top_k; ++k) {
                const Piece piece = reinterpret_cast<const Piece*>(result(token, k))[i];
                const float weight = weights[token * shape.top_k + k];
                MIXTRALKIT_UNROLL for (int64_t j = 0; j < kWide; ++j) {
                    const float term = piece.numbers[j].get() * weight;
                    sums[j] = k == 0 ? term : sums[j] + term;
                }
            }
            Piece sum;
            MIXTRALKIT_UNROLL for (int64_t j = 0; j < kWide; ++j) sum.numbers[j] = Number::from(sums[j]);
            reinterpret_cast<Piece*>(to)[i] = sum;
        }
    }

    // After a failure nothing must pass for a result: all bits set are not a number.
    template <class Team>
    MIXTRALKIT_BOTH void spoil(const Team& team, int64_t token) const {
        const int64_t bytes = shape.row_bytes() * (weights != nullptr ? 1 : shape.top_k);
        for (int64_t i = team.thread(); i < bytes; i += team.threads()) out[token * bytes + i] = std::byte(0xff);
    }
};

}  // namespace mixtralkit::split
