"""The load of a run as a profile, gathered from all ranks."""

from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.load_profile import LoadProfile, ProfiledModel
from mixtralkit.session.session import Session

EXPERTS = ".feed_forward.experts."


def gather_profile(session: Session, name: str) -> LoadProfile:
    """The rows so far, of a model called `name`; the same on every rank, and all ranks call it together."""
    group = session.group
    mine = {"rows_LE": session.load.rows_LE.tolist(), "expert_bytes": _expert_bytes(session.model)}
    ranks = group.control.all_gather_json(mine)
    rows_LWE = tuple(tuple(map(tuple, rows_WE)) for rows_WE in zip(*(rank["rows_LE"] for rank in ranks), strict=True))
    # A placement may leave a rank without experts.
    expert_bytes = max(rank["expert_bytes"] for rank in ranks)
    stats = session.engine.stats
    steps = stats.prefill.steps + stats.decode.steps
    return LoadProfile(_model(session.model, name, expert_bytes), steps, group.topology.node_of_rank, rows_LWE)


def _model(model: Transformer, name: str, expert_bytes: int) -> ProfiledModel:
    config, kept = model.config, model.tok_embeddings.weight
    return ProfiledModel(
        name=name,
        num_layers=config.num_layers,
        num_experts=config.num_experts,
        top_k=config.top_k,
        dim=config.dim,
        hidden_dim=config.hidden_dim,
        expert_bytes=expert_bytes,
        row_bytes=config.dim * (4 if kept.device.type == "cpu" else kept.itemsize),  # on the CPU, rows are float32
    )


def _expert_bytes(model: Transformer) -> int:
    """What one expert of one layer takes, as this rank keeps it; quantized ones with their scales."""
    sizes = {item: tensor.nbytes for item, tensor in model.state_dict().items() if EXPERTS in item}
    experts = {(layer, rest.partition(".")[0]) for layer, _, rest in (item.partition(EXPERTS) for item in sizes)}
    return int(sum(sizes.values())) // max(len(experts), 1)
