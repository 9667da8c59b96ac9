"""The metrics that no other server has: rows by expert, their imbalance, time in dispatch, and which ranks are up."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mixtralkit.serve.rank_states import States, imbalance, total_rows_LE


def expert_families(prefix: str, states: States, *, alive: bool) -> Iterator[Metric]:
    """The metrics of what the ranks told last; `alive` is whether they still take steps, all together."""
    rows_LE = total_rows_LE(states)
    rows = CounterMetricFamily(
        prefix + "expert_rows", "Rows: a token and one of its experts", labels=["layer", "expert"]
    )
    load = GaugeMetricFamily(
        prefix + "expert_load_imbalance", "Busiest expert's rows over the mean, since the start", labels=["layer"]
    )
    for layer, rows_E in enumerate(rows_LE):
        load.add_metric([str(layer)], imbalance(rows_E))
        for expert, count in enumerate(rows_E):
            rows.add_metric([str(layer), str(expert)], count)
    dispatch = CounterMetricFamily(prefix + "dispatch_seconds", "Seconds in dispatch and combine", labels=["rank"])
    up = GaugeMetricFamily(prefix + "rank_up", "Whether steps are taken: by all ranks, or by none", labels=["rank"])
    for state in states:
        dispatch.add_metric([str(state["rank"])], state["dispatch_seconds"])
        up.add_metric([str(state["rank"])], float(alive))
    yield from (rows, load, dispatch, up)
