// Every schema of the extension, and the operators that take no tensor. What runs on a device is registered in its
// ops_*.cpp. Only torch's stable ABI is used: one build serves every torch from 2.10, and needs nothing of Python.
#include <torch/csrc/stable/library.h>

#include "cpu/variant.h"

STABLE_TORCH_LIBRARY(mixtralkit, m) {
    m.def("cpu_variant() -> str");
    m.def("use_cpu_variant(str name) -> ()");
    m.def("linear(Tensor x_RD, Tensor[] data, Tensor[] scales, Tensor[] mins, int[] outputs, Tensor? norm_D=None, "
          "float eps=0.0, Tensor? residual=None) -> Tensor");
    m.def("expert_mlp(Tensor rows_RD, int[] counts_e, Tensor[] data, Tensor[] scales, Tensor[] mins, int hidden) -> "
          "Tensor");
    m.def("attention_block(Tensor x_TD, Tensor norm_D, float eps, Tensor[] qkv_data, Tensor[] qkv_scales, "
          "Tensor[] qkv_mins, int[] qkv_outputs, Tensor(a!) keys, Tensor(b!) values, Tensor segments, Tensor tables, "
          "Tensor cos, Tensor sin, int heads, int window, Tensor[] out_data, Tensor[] out_scales, Tensor[] out_mins) "
          "-> Tensor");
    m.def("moe_block(Tensor x_TD, Tensor norm_D, float eps, Tensor gate_ED, int top_k, Tensor[] data, Tensor[] scales, "
          "Tensor[] mins, int hidden) -> (Tensor, Tensor)");
    m.def("rms_norm(Tensor x_TD, Tensor weight_D, float eps) -> Tensor");
    m.def("attention(Tensor qkv, Tensor(a!) keys, Tensor(b!) values, Tensor segments, Tensor tables, "
          "Tensor cos, Tensor sin, int heads, int window) -> Tensor");
    m.def("rotations(Tensor positions_T, int head_dim, float theta) -> (Tensor, Tensor)");
    m.def("topk_gate(Tensor logits_TE, int top_k) -> (Tensor, Tensor)");
    m.def("linear_gate(Tensor x_TD, Tensor weight_ED, int top_k) -> (Tensor, Tensor)");
    m.def("expert_sort(Tensor expert_ids_TK, Tensor order_E) -> (Tensor, Tensor)");
    m.def("take_rows(Tensor x_TD, Tensor pairs_N, int top_k) -> Tensor");
    m.def("sum_rows(Tensor rows_ND, Tensor pairs_N, Tensor weights_TK) -> Tensor");
    m.def("peer_segment_bytes(int ranks, int slot_bytes) -> int");
    m.def("peer_state_length(int ranks, int all_experts) -> int");
    m.def("peer_dispatch(Tensor(a!) slab, Tensor(b!) state, Tensor x_TD, Tensor expert_ids_TK, Tensor weights_TK, "
          "Tensor(c!)? rows_RD, Tensor(d!)? arrivals) -> (Tensor, Tensor)");
    m.def("peer_combine(Tensor(a!) slab, Tensor(b!) state, Tensor rows_RD, Tensor arrivals, Tensor expert_ids_TK, "
          "bool merged, bool weighted, Tensor(c!)? out) -> Tensor");
    m.def("split_slab_bytes(int ranks, int rows_bytes, int results_bytes) -> int");
    m.def("split_capacity(Tensor config, int width, int element_bytes, int dtype, int top_k) -> int");
    m.def("dispatch_send(Tensor config, Tensor(a!) own, Tensor(b!) report, Tensor x_TD, Tensor expert_ids_TK, "
          "Tensor routes, int all_tokens, Tensor(c!) ticket, int stream) -> ()");
    m.def("dispatch_receive(Tensor config, Tensor(a!) own, Tensor(b!) report, Tensor ticket, Tensor routes, "
          "int top_k, int expected_tokens, Tensor(c!) rows_RD, Tensor(d!) origins_R, Tensor(e!) counts_e, "
          "Tensor(f!) told, int stream) -> ()");
    m.def("combine_send(Tensor config, Tensor(a!) own, Tensor(b!) report, Tensor rows_RD, Tensor origins_R, "
          "Tensor counts_e, int top_k, Tensor(c!) ticket, int stream) -> ()");
    m.def("combine_receive(Tensor config, Tensor(a!) own, Tensor(b!) report, Tensor ticket, Tensor? weights_TK, "
          "int top_k, Tensor(c!) out, int stream) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(mixtralkit, CompositeExplicitAutograd, m) {
    m.impl("cpu_variant", TORCH_BOX(&mixtralkit::cpu_variant));
    m.impl("use_cpu_variant", TORCH_BOX(&mixtralkit::use_cpu_variant));
}
