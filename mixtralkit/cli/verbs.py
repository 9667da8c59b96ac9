"""The verbs of the program. A verb's code is imported when it runs: help and refusals need no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_serve_options import BenchServeOptions
from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.cli.options import (
    ChatOptions,
    ConvertOptions,
    DoctorOptions,
    GenerateOptions,
    InspectOptions,
    MergeOptions,
    VerifyOptions,
)
from mixtralkit.cli.serve_options import ServeOptions


@dataclass(frozen=True)
class Verb:
    """A verb: the dataclass of its options, and `run`, which takes one of them and returns the exit status.

    Its name is one word, or that of another verb and a second word.
    """

    name: str
    summary: str
    description: str
    options: type
    run: Callable[[Any], int]


def _generate(options: GenerateOptions) -> int:
    from mixtralkit.cli.generate import generate

    return generate(options)


def _chat(options: ChatOptions) -> int:
    if options.url:
        from mixtralkit.cli.remote_chat import remote_chat

        return remote_chat(options)
    from mixtralkit.cli.chat import chat

    return chat(options)


def _serve(options: ServeOptions) -> int:
    from mixtralkit.cli.serve import serve

    return serve(options)


def _experts(options: ExpertsOptions) -> int:
    from mixtralkit.cli.experts_verb import experts

    return experts(options)


def _merge(options: MergeOptions) -> int:
    from mixtralkit.cli.checkpoint_verbs import merge

    return merge(options)


def _convert(options: ConvertOptions) -> int:
    from mixtralkit.cli.checkpoint_verbs import convert

    return convert(options)


def _verify(options: VerifyOptions) -> int:
    from mixtralkit.cli.checkpoint_verbs import verify

    return verify(options)


def _inspect(options: InspectOptions) -> int:
    from mixtralkit.cli.checkpoint_verbs import inspect

    return inspect(options)


def _bench(options: BenchOptions) -> int:
    from mixtralkit.cli.bench import bench

    return bench(options)


def _bench_serve(options: BenchServeOptions) -> int:
    from mixtralkit.cli.bench_serve import bench_serve

    return bench_serve(options)


def _doctor(options: DoctorOptions) -> int:
    from mixtralkit.cli.doctor import doctor

    return doctor()


VERBS = (
    Verb(
        "generate",
        "answer prompts, then report how it went",
        "Answers prompts with a Mixtral checkpoint, then reports how fast that was and how busy the experts were. "
        "Under torchrun, or with --nproc, the experts are spread over the ranks; the text is the same with any "
        "number of them. Responses are shown in the order of the prompts, each as it comes.",
        GenerateOptions,
        _generate,
    ),
    Verb(
        "chat",
        "talk with an instruct model",
        "Talks with an instruct model, in the [INST] template of its tokenizer, here or, with --url, on a server. "
        "/reset begins anew, /exit or the end of the input ends; Ctrl-C ends a response.",
        ChatOptions,
        _chat,
    ),
    Verb(
        "serve",
        "answer over HTTP, as OpenAI's API does",
        "Serves a checkpoint over HTTP: OpenAI's routes, Megatron's, a page to chat and to watch the machine at work, "
        "and metrics. Many requests are answered together; they come and go at every step. Under torchrun, or with "
        "--nproc, the experts are spread over the ranks, and rank 0 listens.",
        ServeOptions,
        _serve,
    ),
    Verb(
        "experts",
        "show how busy the experts are, and plan where they go",
        "Shows how many rows each expert and each rank gets in every layer, of a profile that was saved or of a run: "
        "as numbers, in colours on a terminal, and as a picture. With --hot-experts, --replica-memory or --plan it "
        "makes a placement, and tells how evenly the ranks would work and how many rows would leave them and their "
        "nodes. A run works under torchrun or with --nproc as well; nobody is shown its responses.",
        ExpertsOptions,
        _experts,
    ),
    Verb(
        "merge",
        "join consolidated.*-split files",
        "Joins the -split parts of a checkpoint into whole files, in numeric order, and shows their md5. Missing "
        "or doubled parts are named. The merged file appears when it is complete; an interrupted merge is taken "
        "up where it stopped. Merging is never needed here: split parts are read in place.",
        MergeOptions,
        _merge,
    ),
    Verb(
        "convert",
        "write a quantized checkpoint",
        "Quantizes a checkpoint of any form and writes it into a new folder, one matrix at a time, with params.json "
        "and the tokenizer. Loaded from there, weights stay in the mapped file. Embeddings, norms and gates keep their "
        "dtype. docs/checkpoints.md describes the files.",
        ConvertOptions,
        _convert,
    ),
    Verb(
        "verify",
        "find damage in a checkpoint",
        "Reads a checkpoint from end to end and lists what is wrong: truncation, flipped bits, NaNs, missing or "
        "misshapen tensors, a wrong vocabulary, git LFS pointers, unsafe pickles. The exit status is 1 if there "
        "is any.",
        VerifyOptions,
        _verify,
    ),
    Verb(
        "inspect",
        "say what a checkpoint is, and what each rank would hold",
        "Says what a folder holds, the model's shape and sizes, and what each rank would hold of it.",
        InspectOptions,
        _inspect,
    ),
    Verb(
        "bench",
        "say how fast a model runs here, and how near to the limit",
        "Times prefill and decode, and how fast this machine reads memory and multiplies matrices: the limit that each "
        "figure is compared with; docs/benchmarks.md has the formula. Several world sizes, dtypes or quantizations are "
        "measured one after the other, each in processes of its own. `bench serve` measures a server.",
        BenchOptions,
        _bench,
    ),
    Verb(
        "bench serve",
        "say how fast a server answers under load",
        "Sends random requests to a server of OpenAI's API, this one or another, and tells the time to the first "
        "token, the time for each one after it, and tokens and requests a second. docs/benchmarks.md defines the "
        "figures. Ctrl-C ends the load and shows what there is.",
        BenchServeOptions,
        _bench_serve,
    ),
    Verb(
        "doctor",
        "say what this machine and environment can run",
        "Says what this machine and environment can run, and why something cannot be used.",
        DoctorOptions,
        _doctor,
    ),
)
