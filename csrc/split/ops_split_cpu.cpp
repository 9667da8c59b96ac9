// The split exchange between processes that share memory: the text that runs on GPUs, where CI can run it. Teams of a
// step, of which there are several as on a device, take turns.
#include "split/host_team.h"
#include "split/operators.h"

namespace mixtralkit::split {
namespace {

constexpr int64_t kTeams = 3;

struct HostRun {
    template <class Step>
    static void run(const Step& step, int64_t most, int64_t /*stream*/) {
        std::vector<int32_t> scratch(kScratch);
        const int64_t teams = std::min(most, kTeams);
        for (int64_t team = 0; team < teams; ++team) step(HostTeam(team, teams, scratch));
    }
};

// split_slab_bytes(int ranks, int rows_bytes, int results_bytes) -> int
int64_t split_slab_bytes(int64_t ranks, int64_t rows_bytes, int64_t results_bytes) {
    return Slabs::bytes_for(ranks, rows_bytes, results_bytes);
}

// split_capacity(Tensor config, int width, int element_bytes, int dtype, int top_k) -> int
int64_t split_capacity(Tensor config, int64_t width, int64_t element_bytes, int64_t dtype, int64_t top_k) {
    return Config(config).shape(width, element_bytes, dtype, top_k).capacity;
}

}  // namespace
}  // namespace mixtralkit::split

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CPU, m) { mixtralkit::split::register_steps<mixtralkit::split::HostRun>(m); }

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("split_slab_bytes", TORCH_BOX(&mixtralkit::split::split_slab_bytes));
    m.impl("split_capacity", TORCH_BOX(&mixtralkit::split::split_capacity));
}
