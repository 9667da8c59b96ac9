#include "nccl/library.h"

#include <dlfcn.h>
#include <mutex>
#include <optional>
#include <vector>

#include <torch/headeronly/util/Exception.h>

namespace mixtralkit::nccl {
namespace {

constexpr const char* kSoname = "libnccl.so.2";
// From here on there is all that is used: configurations, and communicators whose calls do not block.
constexpr int kLowest = NCCL_VERSION(2, 14, 0);

int major_of(int code) { return code < 10000 ? code / 1000 : code / 10000; }

std::mutex mutex;
// Never closed: the functions may be needed until the process is gone.
std::optional<Library>& found() {
    static std::optional<Library> library;
    return library;
}

void* load(const std::string& wheel) {
    std::string reasons;
    struct Attempt {
        std::string path;
        int flags;
    };
    for (const Attempt& attempt : std::vector<Attempt>{{kSoname, RTLD_NOLOAD}, {wheel, 0}, {kSoname, 0}}) {
        if (attempt.path.empty()) continue;
        if (void* handle = dlopen(attempt.path.c_str(), RTLD_NOW | RTLD_LOCAL | attempt.flags)) return handle;
        const char* reason = dlerror();
        if (attempt.flags == 0 && reason != nullptr) reasons += (reasons.empty() ? "" : "; ") + std::string(reason);
    }
    STD_TORCH_CHECK(false, "no NCCL was found (", reasons, ")");
}

std::string path_of(const void* function) {
    Dl_info info{};
    return dladdr(function, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "an unknown file";
}

Functions functions_of(void* handle) {
    Functions functions;
#define MIXTRALKIT_LOOK_UP(name)                                                                                       \
    functions.name = reinterpret_cast<decltype(functions.name)>(dlsym(handle, "nccl" #name));                          \
    STD_TORCH_CHECK(functions.name != nullptr, "the NCCL that was found has no function nccl" #name ": ", dlerror());
    MIXTRALKIT_NCCL_FUNCTIONS(MIXTRALKIT_LOOK_UP)
#undef MIXTRALKIT_LOOK_UP
    return functions;
}

Library open(void* handle) {
    auto* get_version = reinterpret_cast<decltype(&ncclGetVersion)>(dlsym(handle, "ncclGetVersion"));
    STD_TORCH_CHECK(get_version != nullptr, "the NCCL that was found does not tell its version");
    int version = 0;
    get_version(&version);
    const std::string path = path_of(reinterpret_cast<const void*>(get_version));
    const std::string problem = why_not_version(version);
    STD_TORCH_CHECK(problem.empty(), problem, ": ", path);
    return {functions_of(handle), version, path};
}

}  // namespace

std::string version_text(int code) {
    const int minor = code < 10000 ? code / 100 % 10 : code / 100 % 100;
    return std::to_string(major_of(code)) + "." + std::to_string(minor) + "." + std::to_string(code % 100);
}

std::string why_not_version(int version) {
    if (major_of(version) != major_of(kHeaderVersion))
        return "this was compiled with the header of NCCL " + version_text(kHeaderVersion) + ", and the library is " +
               version_text(version) + ", of another major version";
    if (version < kLowest)
        return "this was compiled with the header of NCCL " + version_text(kHeaderVersion) + ", and the library is " +
               version_text(version) + ", older than " + version_text(kLowest);
    return "";
}

const Library& open_library(const std::string& wheel) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!found()) found() = open(load(wheel));
    return *found();
}

const Library& library() {
    const std::lock_guard<std::mutex> lock(mutex);
    STD_TORCH_CHECK(found().has_value(), "NCCL was not opened");
    return *found();
}

}  // namespace mixtralkit::nccl
