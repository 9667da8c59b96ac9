"""The expert-parallel layer: gate, dispatch, experts, combine."""
