// Results of the sorted rows back home, each to the place of its (token, k): no order to agree on, nothing to count.
#pragma once

#include "split/dispatch_receive.h"

namespace mixtralkit::split {

struct CombineSend {
    Exchange at;
    Shape shape;
    const std::byte* rows;   // [R or more, row_bytes]
    const int32_t* origins;  // [R or more]
    const int64_t* counts;   // rows of each of this rank's experts [e]; R is their sum
    int64_t experts;         // e
    int64_t* ticket;         // the number of this combine, for its receive

    template <class Team>
    MIXTRALKIT_BOTH void operator()(const Team& team) const {
        if (at.failed(team)) return;
        const int64_t number = at.own[kCombines] + 1;
        if (!at.await(team, kResultsRead, number - kBuffers)) return;
        int64_t total = 0;
        for (int64_t expert = 0; expert < experts; ++expert) total += counts[expert];
        for (int64_t row = team.block(); row < total; row += team.blocks()) {
            std::byte* const home = at.slabs.results(source_of(origins[row]), number);
            std::byte* const place = home + pair_of(origins[row]) * shape.result_stride();
            copy_row(team, place, rows + row * shape.row_bytes(), shape.row_bytes());
        }
        if (!team.last(at.own + kDone + 2)) return;
        at.tell_all(team, kResultsSent, number);
        if (team.thread() != 0) return;
        at.own[kCombines] = number;
        *ticket = number;
    }
};

}  // namespace mixtralkit::split
