// Doing the steps of an exchange until it is done: spin briefly while there is nothing to do, then sleep.
#pragma once

#include <chrono>

#include "peer/bell.h"

namespace mixtralkit::peer {

// What one look at all channels came to.
enum class Advance { nothing, some, done };

// How long to spin before each sleep, and how long to wait in all before giving the caller a chance to look around.
struct Patience {
    int64_t spin_ns, slice_ns;
};

inline void pause_processor() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

inline int64_t now_ns() {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Call `step` until it is done: true. False when nothing has happened for a slice of time; call it again then.
template <class Step>
bool carry_out(Bell& bell, const Patience& patience, Step step) {
    int64_t idle_since = 0;  // 0 while there is something to do
    bool announced = false;
    for (;;) {
        const Advance advance = step();
        if (advance != Advance::nothing) {
            if (announced) cancel_sleep(bell);
            if (advance == Advance::done) return true;
            announced = false;
            idle_since = 0;
            continue;
        }
        const int64_t now = now_ns();
        if (idle_since == 0) idle_since = now;
        const int64_t idle = now - idle_since;
        if (idle >= patience.slice_ns) {
            if (announced) cancel_sleep(bell);
            return false;
        }
        if (idle < patience.spin_ns) {
            pause_processor();
        } else if (!announced) {
            announce_sleep(bell);  // and look once more
            announced = true;
        } else {
            sleep(bell, patience.slice_ns - idle);
            announced = false;
        }
    }
}

}  // namespace mixtralkit::peer
