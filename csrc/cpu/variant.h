// Which variant of the CPU kernels runs: the best that the processor has, or a lower one that was asked for.
#pragma once

#include <string>

namespace mixtralkit {

// In ascending order: a processor that has one has all before it.
enum class Variant { portable, avx2, avx512 };

// The variant that kernels run now. Cheap enough to be asked in every call.
Variant variant();

// Its name.
std::string cpu_variant();

// From now on runs the variant `name`, in all threads. Throws, naming those that this processor has, for any other.
void use_cpu_variant(std::string name);

}  // namespace mixtralkit
