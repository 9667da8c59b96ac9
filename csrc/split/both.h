// What lets one text be compiled for the device by nvcc, and for the host by any C++ compiler.
//
// Steps are written for a team: the threads of one block on the device, which work on an item together, and one thread
// on the host, for which "every thread takes a part" is a plain loop.
#pragma once

#if defined(__CUDACC__)
#define MIXTRALKIT_BOTH __device__ inline
#define MIXTRALKIT_UNROLL _Pragma("unroll")
#else
#define MIXTRALKIT_BOTH inline
#define MIXTRALKIT_UNROLL
#endif
