"""The variants that are compared, as flags of the main job."""

from collections.abc import Sequence

PLAIN, OVERLAP, HOT, BOTH, ADAPTIVE = "plain", "overlap", "hot experts", "both", "adaptive"
VARIANTS = (PLAIN, OVERLAP, HOT, BOTH, ADAPTIVE)
DEFAULT = (PLAIN, OVERLAP, HOT, BOTH)
HOT_EXPERTS = 3  # of each layer


def flags_of(variant: str, hot: str) -> list[str]:
    """The flags of a variant; `hot` are the hot experts as --hot-experts takes them."""
    overlap, replicas = ["--overlap", "auto"], ["--hot-experts", hot]
    return {
        PLAIN: [],
        OVERLAP: overlap,
        HOT: replicas,
        BOTH: [*overlap, *replicas],
        ADAPTIVE: [*overlap, "--placement", "adaptive"],
    }[variant]


def hot_experts(rows_LE: Sequence[Sequence[int]], number: int = HOT_EXPERTS) -> str:
    """The experts of each layer that get most rows, as --hot-experts takes them: "0:1,2;1:0,7" (layer:experts)."""
    layers = []
    for layer, rows_E in enumerate(rows_LE):
        popular = sorted(range(len(rows_E)), key=rows_E.__getitem__, reverse=True)[:number]
        layers.append(f"{layer}:{','.join(map(str, sorted(popular)))}")
    return ";".join(layers)
