// The functions of NCCL that are used, as a table that library.cpp fills at run time: nothing is linked against NCCL.
#pragma once

#include <nccl.h>

// clang-format off
#define MIXTRALKIT_NCCL_FUNCTIONS(of_each)                                                                             \
    of_each(GetVersion) of_each(GetErrorString) of_each(GetLastError) of_each(GetUniqueId)                             \
    of_each(CommInitRankConfig) of_each(CommGetAsyncError) of_each(CommFinalize) of_each(CommDestroy)                  \
    of_each(CommAbort) of_each(GroupStart) of_each(GroupEnd) of_each(Send) of_each(Recv) of_each(AllGather)
// clang-format on

namespace mixtralkit::nccl {

// functions.Send is ncclSend, and so on.
struct Functions {
#define MIXTRALKIT_MEMBER(name) decltype(&nccl##name) name;
    MIXTRALKIT_NCCL_FUNCTIONS(MIXTRALKIT_MEMBER)
#undef MIXTRALKIT_MEMBER
};

}  // namespace mixtralkit::nccl
