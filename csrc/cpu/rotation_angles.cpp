#include "cpu/rotation_angles.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/tasks.h"

namespace mixtralkit {

void rotation_angles(const std::int64_t* positions, std::int64_t tokens, std::int64_t head_dim, double theta,
                     float* cosines, float* sines) {
    const std::int64_t half = head_dim / 2;
    std::vector<float> speeds;
    for (std::int64_t i = 0; i < half; ++i) {
        const double power = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
        speeds.push_back(static_cast<float>(std::pow(theta, power)));
    }
    each_task(pieces(tokens, kTokensPerTask), [&](std::int64_t task) {
        for (std::int64_t t = task * kTokensPerTask; t < std::min(tokens, (task + 1) * kTokensPerTask); ++t) {
            const auto position = static_cast<float>(positions[t]);
            for (std::int64_t i = 0; i < half; ++i) {
                const double angle = position * speeds[static_cast<std::size_t>(i)];
                cosines[t * half + i] = static_cast<float>(std::cos(angle));
                sines[t * half + i] = static_cast<float>(std::sin(angle));
            }
        }
    });
}

}  // namespace mixtralkit
