// NCCL's own library, found at run time.
#pragma once

#include <string>

#include "nccl/functions.h"

namespace mixtralkit::nccl {

// The version of nccl.h that this was compiled with, as NCCL codes it.
constexpr int kHeaderVersion = NCCL_VERSION_CODE;

struct Library {
    Functions functions;
    int version;       // as NCCL codes it
    std::string path;  // of the file that the functions are in
};

// Find NCCL, once a process: the library that is loaded already (torch's), else the file `wheel` unless that is empty,
// else what the system's loader finds. Throws where there is none, or one that does not go with kHeaderVersion.
const Library& open_library(const std::string& wheel);

// The library that open_library has found. Throws before.
const Library& library();

// "2.32.3" of 23203, and "2.8.4" of 2804: the code has changed with 2.9.
std::string version_text(int code);

// Why a library of version `found` cannot be called with the types of kHeaderVersion; empty where it can.
std::string why_not_version(int found);

}  // namespace mixtralkit::nccl
