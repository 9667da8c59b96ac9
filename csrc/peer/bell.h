// Sleeping until a peer has written something, without a lock and without a lost wake-up.
//
// The sleeper says "asleep", then looks once more at the words of all peers, then sleeps in the kernel, which looks
// at "asleep" again. A peer writes its word, then looks at "asleep". In the single order of these four sequentially
// consistent accesses one of the two sees the other's.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "peer/layout.h"

namespace mixtralkit::peer {

// Wake the owner of `bell` if it sleeps. Call it after a sequentially consistent store of what the owner waits for.
inline void ring(Bell& bell) {
    if (bell.asleep.load(std::memory_order_seq_cst) == 0) return;
    if (bell.asleep.exchange(0, std::memory_order_seq_cst) == 0) return;  // another peer was first
    syscall(SYS_futex, &bell.asleep, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// From now on peers ring. Look once more before `sleep`.
inline void announce_sleep(Bell& bell) { bell.asleep.store(1, std::memory_order_seq_cst); }

// There was something: no sleep. A peer may ring all the same, and the next sleep then ends early.
inline void cancel_sleep(Bell& bell) { bell.asleep.store(0, std::memory_order_relaxed); }

// Sleep until a peer rings, a signal comes or `nanoseconds` have passed.
inline void sleep(Bell& bell, int64_t nanoseconds) {
    const timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    syscall(SYS_futex, &bell.asleep, FUTEX_WAIT, 1, &limit, nullptr, 0);
    cancel_sleep(bell);
}

}  // namespace mixtralkit::peer
