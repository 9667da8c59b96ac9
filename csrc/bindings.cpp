// Every schema of the extension, and the operators that take no tensor. What runs on a device is registered in its
// ops_*.cpp. Only torch's stable ABI is used: one build serves every torch from 2.10, and needs nothing of Python.
#include <torch/csrc/stable/library.h>

#include "cpu/variant.h"

STABLE_TORCH_LIBRARY(mixtralkit, m) {
    m.def("cpu_variant() -> str");
    m.def("use_cpu_variant(str name) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("cpu_variant", TORCH_BOX(&mixtralkit::cpu_variant));
    m.impl("use_cpu_variant", TORCH_BOX(&mixtralkit::use_cpu_variant));
}
