// Bringing memory into the cache before it is needed.
#pragma once

namespace mixtralkit {
namespace {

// In the place in the code where it is written: a compiler moves its own prefetches together, too many at a time.
inline void fetch(const void* p) {
#if defined(__x86_64__)
    __asm__ volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
#else
    __builtin_prefetch(p);
#endif
}

}  // namespace
}  // namespace mixtralkit
