// A rank's end of the exchange: waiting for the others, telling them, and giving up.
#pragma once

#include "split/slab.h"

namespace mixtralkit::split {

// Why a rank gave up; moe/dispatch/cuda_peer_exchange.py has the words.
enum Failure : int64_t { kLate = 1, kDisagree = 2, kNoRoom = 3 };

// Places in the numbers that a rank keeps in the memory of its device; zeros at first.
enum Own : int64_t {
    kFailed = 0,
    kDispatches = 1,  // begun by this rank, whose number the next one has after it
    kCombines = 2,
    kDone = 3,  // teams that have come to the end of a step: one number for each of the four steps
    kOwnNumbers = 8,
};

// Places in the report of a failure, in memory that the host can read at any time; zeros while all is well.
enum Report : int64_t { kWhat = 0, kRank = 1, kWord = 2, kNumber = 3, kTheirs = 4, kReportNumbers = 16 };

struct Exchange {
    Slabs slabs;
    int64_t rank, timeout_ns;
    int64_t *own, *report;

    // Whether an earlier step gave up. All threads of the team get the same answer.
    template <class Team>
    MIXTRALKIT_BOTH bool failed(const Team& team) const {
        return team.any(Team::load(own + kFailed) != 0);
    }

    // Wait until all ranks have said in this rank's slab that they have come to `number`. False, for the whole team,
    // when one has not within the time-out.
    template <class Team>
    MIXTRALKIT_BOTH bool await(const Team& team, Word word, int64_t number) const {
        bool good = true;
        for (int64_t peer = team.thread(); peer < slabs.ranks && good; peer += team.threads())
            good = await_one<Team>(word, peer, number);
        return team.all(good);
    }

    // Tell all ranks that this one has come to `number`, behind everything that its teams have done so far; only for
    // the last team of a step.
    template <class Team>
    MIXTRALKIT_BOTH void tell_all(const Team& team, Word word, int64_t number) const {
        for (int64_t peer = team.thread(); peer < slabs.ranks; peer += team.threads())
            Team::store_release(slabs.word(peer, rank, word), number);
    }

    // Write down why this rank gives up, unless another thread has; every later step returns at once.
    template <class Team>
    MIXTRALKIT_BOTH void give_up(Failure what, int64_t peer, int64_t word, int64_t number, const Head& theirs) const {
        if (Team::test_and_set(own + kFailed)) return;
        report[kRank] = peer;
        report[kWord] = word;
        report[kNumber] = number;
        const int64_t told[] = {theirs.width, theirs.dtype, theirs.top_k, theirs.fp8, theirs.tokens, theirs.all_tokens};
        for (int64_t i = 0; i < 6; ++i) report[kTheirs + i] = told[i];
        Team::store_release(report + kWhat, what);
    }

  private:
    template <class Team>
    MIXTRALKIT_BOTH bool await_one(Word word, int64_t peer, int64_t number) const {
        int64_t* const told = slabs.word(rank, peer, word);
        const int64_t begin = Team::now_ns();
        while (Team::load_acquire(told) < number) {
            if (Team::now_ns() - begin > timeout_ns) {
                give_up<Team>(kLate, peer, word, number, Head{});
                return false;
            }
            if (Team::load(own + kFailed) != 0) return false;  // another thread's peer is late too
            Team::relax();
        }
        return true;
    }
};

}  // namespace mixtralkit::split
