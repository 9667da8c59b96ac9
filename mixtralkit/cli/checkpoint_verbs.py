"""`mixtralkit merge`, `convert`, `verify` and `inspect`: checkpoints on the disk, without running them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mixtralkit.checkpoint.byte_progress import ByteProgress
from mixtralkit.checkpoint.checkpoint_summary import Summary, summarize
from mixtralkit.checkpoint.convert import convert as convert_checkpoint
from mixtralkit.checkpoint.manifest import write_manifest
from mixtralkit.checkpoint.merge_parts import merge as merge_parts
from mixtralkit.checkpoint.split_files import name_some
from mixtralkit.checkpoint.verify import verify as find_problems
from mixtralkit.cli.options import ConvertOptions, InspectOptions, MergeOptions, VerifyOptions
from mixtralkit.cli.progress import Progress
from mixtralkit.cli.tables import spans, table
from mixtralkit.cli.terminal import say
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.sizes import counted, size


def merge(options: MergeOptions) -> int:
    """Join split parts; returns the exit status."""
    with _progress("merging") as update:
        results = merge_parts(options.model_weights, output=options.output, on_progress=update)
    for result in results:
        resumed = f", {size(result.resumed_nbytes)} of which were there already" if result.resumed_nbytes else ""
        known = f" ({result.known_as})" if result.known_as else ""
        say(f"{result.path}: {result.nbytes:,} bytes{resumed}")
        say(f"md5 {result.md5}{known}")
    return 0


def convert(options: ConvertOptions) -> int:
    """Write a quantized checkpoint; returns the exit status."""
    with _progress("converting") as update:
        convert_checkpoint(options.model_weights, options.output, QuantKind(options.quantize), update)
    summary = summarize(options.output)
    say(f"{options.output}: {size(summary.nbytes)}, {_kept_as(summary)}")
    return 0


def verify(options: VerifyOptions) -> int:
    """List what is wrong with a checkpoint; returns the exit status, 1 when something is.

    The manifest is written only for a checkpoint that has passed.
    """
    with _progress("verifying") as update:
        problems = find_problems(options.model_weights, tokenizer=options.tokenizer, on_progress=update)
    for problem in problems:
        say(str(problem))
    if problems:
        say(f"{counted(len(problems), 'problem')} found in {options.model_weights}")
        return 1
    if options.write_manifest:
        with _progress("hashing") as update:
            say(f"{write_manifest(options.model_weights, update)} written")
    summary = summarize(options.model_weights)
    say(f"{options.model_weights}: no problem found; checksums: {summary.checksums}")
    if options.tokenizer is None and summary.checkpoint.tokenizer is None:
        say("There is no tokenizer.model, so the vocabulary was not checked; --tokenizer names one.")
    return 0


def inspect(options: InspectOptions) -> int:
    """Describe a checkpoint; returns the exit status."""
    summary = summarize(options.model_weights, options.world_size)
    facts = {"folder": str(options.model_weights), **_files(summary), **_shape(summary), **_sizes(summary)}
    for name, value in facts.items():
        say(f"{name:<12} {value}")
    say("")
    rows = [[str(share.rank), spans(share.experts), size(share.nbytes)] for share in summary.ranks]
    for line in table([["rank", "experts of each layer", "weights"], *rows]):
        say(line)
    return 0


def _files(summary: Summary) -> dict[str, str]:
    checkpoint = summary.checkpoint
    names = [path.name for file in checkpoint.files for path in file.paths]
    shown = f"{names[0]} ... {names[-1]} ({len(names)})" if len(names) > 1 else names[0]
    facts = {
        "form": f"{summary.form}, {summary.naming}",
        "files": f"{shown}, {size(checkpoint.size)}",
        "tokenizer": checkpoint.tokenizer.name if checkpoint.tokenizer else "none in the folder",
        "checksums": summary.checksums,
    }
    return {**facts, **({"passed over": name_some(checkpoint.passed_over)} if checkpoint.passed_over else {})}


def _shape(summary: Summary) -> dict[str, str]:
    config = summary.config
    window = f", sliding window {config.sliding_window}" if config.sliding_window else ""
    return {
        "layers": f"{config.num_layers}, width {config.dim}, hidden {config.hidden_dim}",
        "attention": f"{config.num_heads} heads of {config.head_dim}, {config.num_kv_heads} KV heads, "
        f"rope theta {config.rope_theta:g}, norm eps {config.norm_eps:g}",
        "experts": f"{config.num_experts} a layer, top {config.top_k}",
        "vocabulary": f"{config.vocab_size}, context {config.context}{window}",
    }


def _sizes(summary: Summary) -> dict[str, str]:
    config = summary.config
    kv = 2 * config.num_layers * config.num_kv_heads * config.head_dim * summary.dtype.itemsize
    return {
        "parameters": f"{summary.num_params:,}, {summary.num_active_params:,} of them for a token",
        "weights": f"{size(summary.nbytes)}: {size(summary.shared_nbytes)} on every rank, "
        f"{size(summary.expert_nbytes)} an expert",
        "kept as": _kept_as(summary),
        "KV cache": f"{size(kv)} a token",
    }


def _kept_as(summary: Summary) -> str:
    """The dtypes of the weights, and what part is quantized to how many bits."""
    dtype, quantized = str(summary.dtype).removeprefix("torch."), summary.quantized
    if quantized is None:
        return dtype
    share = quantized.num_params / summary.num_params
    return f"{quantized.kind.value}, {quantized.bits_per_weight:.3g} bits a weight, for {share:.1%}; the rest {dtype}"


@contextmanager
def _progress(label: str) -> Iterator[Callable[[ByteProgress], None]]:
    """A bar for the time of a `with` block."""
    progress = Progress(label)
    try:
        yield lambda state: progress.update(state.nbytes, state.total_nbytes)
    finally:
        progress.close()
