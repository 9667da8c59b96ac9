// Tokens to the ranks that hold their experts: written straight into the owners' slabs, a token once a rank.
#pragma once

#include "split/exchange.h"
#include "split/rows.h"

namespace mixtralkit::split {

// Which rank has an expert's rows, and the expert's number there: [E] each.
struct Routes {
    const int32_t *rank_of, *index_of;
};

struct DispatchSend {
    Exchange at;
    Shape shape;
    Routes routes;
    const std::byte* rows;      // [T, row_bytes]
    const int64_t* expert_ids;  // [T, K]
    int64_t tokens, all_tokens;
    int64_t* ticket;  // the number of this dispatch, for its receive

    // What one team of the step does; teams share the tokens out.
    template <class Team>
    MIXTRALKIT_BOTH void operator()(const Team& team) const {
        if (at.failed(team)) return;
        const int64_t number = at.own[kDispatches] + 1;
        if (!at.await(team, kRowsRead, number - kBuffers)) return;
        for (int64_t token = team.block(); token < tokens; token += team.blocks()) send(team, number, token);
        for (int64_t expert = team.block(); expert < shape.experts; expert += team.blocks())
            tell_rows_for(team, number, expert);
        if (team.block() == 0) write_heads(team, number);
        if (!team.last(at.own + kDone)) return;
        at.tell_all(team, kRowsSent, number);
        if (team.thread() != 0) return;
        at.own[kDispatches] = number;
        *ticket = number;
    }

  private:
    MIXTRALKIT_BOTH Message message(int64_t owner, int64_t number) const {
        return {at.slabs.rows(owner, at.rank, number), shape};
    }
    MIXTRALKIT_BOTH int64_t owner_of(int64_t token, int64_t k) const {
        return routes.rank_of[expert_ids[token * shape.top_k + k]];
    }

    template <class Team>
    MIXTRALKIT_BOTH void send(const Team& team, int64_t number, int64_t token) const {
        for (int64_t k = 0; k < shape.top_k; ++k) {
            const int64_t expert = expert_ids[token * shape.top_k + k], owner = routes.rank_of[expert];
            const int32_t place = rows_before(team, expert, token);
            for (int64_t rank = team.thread(); rank < at.slabs.ranks; rank += team.threads())
                message(rank, number).choice(token, k) = {rank == owner ? routes.index_of[expert] : -1, place};
            if (first_on_rank(token, k)) write_row(team, message(owner, number), token);
        }
    }

    // How many rows for `expert` the tokens before `token` have.
    template <class Team>
    MIXTRALKIT_BOTH int32_t rows_before(const Team& team, int64_t expert, int64_t token) const {
        const int64_t pairs = token * shape.top_k;
        int32_t found = 0;
        for (int64_t begin = 0; begin < pairs; begin += team.threads()) {
            const int64_t pair = begin + team.thread();
            found += team.count(pair < pairs && expert_ids[pair] == expert);
        }
        return found;
    }

    MIXTRALKIT_BOTH bool first_on_rank(int64_t token, int64_t k) const {
        for (int64_t earlier = 0; earlier < k; ++earlier)
            if (owner_of(token, earlier) == owner_of(token, k)) return false;
        return true;
    }

    template <class Team>
    MIXTRALKIT_BOTH void write_row(const Team& team, const Message& to, int64_t token) const {
        const std::byte* const row = rows + token * shape.row_bytes();
        if (!shape.fp8) return copy_row(team, to.row(token), row, shape.row_bytes());
        with_number(shape.dtype, [&](auto number) {
            const float scale = write_fp8<decltype(number)>(team, to.row(token), row, shape.width);
            if (team.thread() == 0) to.scale(token) = scale;
        });
    }

    // All ranks hear of every expert: a rank that holds one may get no rows for it from here.
    template <class Team>
    MIXTRALKIT_BOTH void tell_rows_for(const Team& team, int64_t number, int64_t expert) const {
        const int32_t count = rows_before(team, expert, tokens);
        for (int64_t rank = team.thread(); rank < at.slabs.ranks; rank += team.threads())
            message(rank, number).rows_for(expert) = rank == routes.rank_of[expert] ? count : 0;
    }

    template <class Team>
    MIXTRALKIT_BOTH void write_heads(const Team& team, int64_t number) const {
        const Head head{shape.width, shape.dtype, shape.top_k, shape.fp8, tokens, all_tokens, {}};
        for (int64_t rank = team.thread(); rank < at.slabs.ranks; rank += team.threads())
            message(rank, number).head() = head;
    }
};

}  // namespace mixtralkit::split
