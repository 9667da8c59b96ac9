// The tokens that came, sorted: by this rank's expert, then by the rank they came from, then as they were there.
//
// Every team finds the place of every expert's and source's first row by itself, from the numbers of rows in the
// messages, so that teams need not wait for each other.
#pragma once

#include "split/exchange.h"
#include "split/rows.h"

namespace mixtralkit::split {

// Whose row it is: the rank it came from, and its (token, k) there.
constexpr int64_t kOriginBits = 26;
MIXTRALKIT_BOTH int32_t origin_of(int64_t source, int64_t pair) { return int32_t(source << kOriginBits | pair); }
MIXTRALKIT_BOTH int64_t source_of(int32_t origin) { return int64_t(uint32_t(origin) >> kOriginBits); }
MIXTRALKIT_BOTH int64_t pair_of(int32_t origin) { return int64_t(uint32_t(origin) & ((1u << kOriginBits) - 1)); }

struct DispatchReceive {
    Exchange at;
    Shape shape;
    const int32_t* mine;  // this rank's experts [e]
    int64_t experts;      // e
    const int64_t* ticket;
    int64_t expected_tokens;  // that every rank must have sent, or -1
    int64_t room;             // rows that there is room for
    std::byte* rows;          // [room, row_bytes]
    int32_t* origins;         // [room]
    int64_t* counts;          // rows of each expert [e]
    int64_t* told;            // by rank all tokens of its call [W], then by expert and rank the rows [e, W]

    template <class Team>
    MIXTRALKIT_BOTH void operator()(const Team& team) const {
        if (at.failed(team) || !ready(team)) return forget(team);
        const int64_t number = *ticket;
        int32_t* const first = team.scratch();
        count_rows(team, number, first);
        team.exclusive_scan(first, experts * at.slabs.ranks);
        take_all(team, number, first);
        if (!team.last(at.own + kDone + 1)) return;
        at.tell_all(team, kRowsRead, number);
    }

  private:
    MIXTRALKIT_BOTH Message message(int64_t source, int64_t number) const {
        return {at.slabs.rows(at.rank, source, number), shape};
    }

    // Whether all messages have come, tell of the same rows, and do not bring more than there is room for.
    template <class Team>
    MIXTRALKIT_BOTH bool ready(const Team& team) const {
        if (!at.await(team, kRowsSent, *ticket)) return false;
        bool good = true;
        for (int64_t source = team.thread(); source < at.slabs.ranks; source += team.threads()) {
            const Head& head = message(source, *ticket).head();
            if (agrees(head) && fits()) continue;
            at.give_up<Team>(agrees(head) ? kNoRoom : kDisagree, source, kRowsSent, *ticket, head);
            good = false;
        }
        return team.all(good);
    }

    MIXTRALKIT_BOTH bool fits() const {
        int64_t tokens = 0;
        for (int64_t source = 0; source < at.slabs.ranks; ++source) tokens += message(source, *ticket).head().tokens;
        return tokens * least(shape.top_k, experts) <= room;
    }

    MIXTRALKIT_BOTH bool agrees(const Head& head) const {
        return head.width == shape.width && head.dtype == shape.dtype && head.top_k == shape.top_k &&
               head.fp8 == shape.fp8 && (expected_tokens < 0 || head.tokens == expected_tokens);
    }

    // By expert and source, how many rows; the first team tells the caller.
    template <class Team>
    MIXTRALKIT_BOTH void count_rows(const Team& team, int64_t number, int32_t* found) const {
        const int64_t ranks = at.slabs.ranks;
        for (int64_t i = team.thread(); i < experts * ranks; i += team.threads()) {
            const auto expert = uint32_t(i) / uint32_t(ranks);  // of 32 bits: of 64 it takes the device a function
            found[i] = message(i - expert * ranks, number).rows_for(mine[expert]);
        }
        team.sync();
        if (team.block() != 0) return;
        for (int64_t source = team.thread(); source < ranks; source += team.threads())
            told[source] = message(source, number).head().all_tokens;
        for (int64_t i = team.thread(); i < experts * ranks; i += team.threads()) told[ranks + i] = found[i];
        for (int64_t expert = team.thread(); expert < experts; expert += team.threads()) {
            int64_t sum = 0;
            for (int64_t source = 0; source < ranks; ++source) sum += found[expert * ranks + source];
            counts[expert] = sum;
        }
        team.sync();  // before the scan writes over them
    }

    // The tokens of all ranks, one after the other, are shared out among the teams.
    template <class Team>
    MIXTRALKIT_BOTH void take_all(const Team& team, int64_t number, const int32_t* first) const {
        int64_t token = team.block();
        for (int64_t source = 0; source < at.slabs.ranks; ++source) {
            const Message from = message(source, number);
            const int64_t tokens = from.head().tokens;
            for (; token < tokens; token += team.blocks()) take(team, from, source, token, first);
            token -= tokens;
        }
    }

    template <class Team>
    MIXTRALKIT_BOTH void take(const Team& team, const Message& from, int64_t source, int64_t token,
                              const int32_t* first) const {
        for (int64_t k = 0; k < shape.top_k; ++k) {
            const Choice choice = from.choice(token, k);
            if (choice.index < 0) continue;
            const int64_t place = first[choice.index * at.slabs.ranks + source] + choice.place;
            read_row(team, from, token, rows + place * shape.row_bytes());
            if (team.thread() == 0) origins[place] = origin_of(source, token * shape.top_k + k);
        }
    }

    template <class Team>
    MIXTRALKIT_BOTH void read_row(const Team& team, const Message& from, int64_t token, std::byte* to) const {
        if (!shape.fp8) return copy_row(team, to, from.row(token), shape.row_bytes());
        with_number(shape.dtype, [&](auto number) {
            read_fp8<decltype(number)>(team, to, from.row(token), shape.width, from.scale(token));
        });
    }

    // After a failure there are no rows, whatever the memory holds.
    template <class Team>
    MIXTRALKIT_BOTH void forget(const Team& team) const {
        if (team.block() != 0) return;
        for (int64_t expert = team.thread(); expert < experts; expert += team.threads()) counts[expert] = 0;
        for (int64_t i = team.thread(); i < (1 + experts) * at.slabs.ranks; i += team.threads()) told[i] = 0;
    }
};

}  // namespace mixtralkit::split
