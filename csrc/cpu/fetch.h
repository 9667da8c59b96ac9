// Bringing memory into the cache before it is needed.
#pragma once

#include <cstdint>

namespace mixtralkit {
namespace {

// How far ahead of their use weights are fetched where they are one stream. docs/log.md has what was measured.
constexpr std::int64_t kFetchAhead = 8192;

// Into the second-level cache, as the first has no room for what lies between. In the place in the code where it is
// written: a compiler moves its own prefetches together, too many at a time.
inline void fetch(const void* p) {
#if defined(__x86_64__)
    // An address, not its content: that might be a local variable, which would be kept in memory for it.
    __asm__ volatile("prefetcht1 (%0)" : : "r"(p));
#else
    __builtin_prefetch(p, 0, 2);
#endif
}

}  // namespace
}  // namespace mixtralkit
