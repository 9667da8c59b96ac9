"""`mixtralkit generate` and tools/example.py: prompts in, responses and a report out."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from mixtralkit.cli.explain import explain
from mixtralkit.cli.explain_table import explain_lines
from mixtralkit.cli.live_text import LiveText
from mixtralkit.cli.options import GenerateOptions
from mixtralkit.cli.patience import from_rank_0
from mixtralkit.cli.progress import Progress
from mixtralkit.cli.prompts import read_prompts
from mixtralkit.cli.ranks import run_on_ranks
from mixtralkit.cli.report import gather_report, report_text
from mixtralkit.cli.run_files import write_run_files
from mixtralkit.cli.session_settings import load_session
from mixtralkit.cli.strategy_notices import notice_strategies
from mixtralkit.cli.terminal import aside, say
from mixtralkit.dist.launch import Group
from mixtralkit.engine.request import Completion, Request
from mixtralkit.session.session import Session


def generate(options: GenerateOptions) -> int:
    """Run the verb; returns the exit status."""
    return run_on_ranks("generate", options, lambda group: _generate(group, options))


def _generate(group: Group, options: GenerateOptions) -> None:
    notice_strategies(options)
    if group.rank == 0:
        options.check_outputs()
    group.at("reading the prompts")
    prompts = from_rank_0(group.control, lambda: read_prompts(options.prompt, options.prompt_file))
    session = load_session(group, options, options.batch_size)
    requests = requests_of(session, options, prompts)
    completions = answer(session, options, prompts, requests)
    report = gather_report(session) if options.report_kind != "none" else None
    explained = explain(session) if options.explain else None
    if report is not None and explained is not None:
        report["explain"] = explained
    if group.rank == 0:
        _show(options, prompts, completions, report)
        if report is None and explained is not None:
            aside("\n".join(explain_lines(explained)))
    write_run_files(session, options)


def answer(
    session: Session, options: GenerateOptions, prompts: Sequence[str], requests: Sequence[Request]
) -> list[Completion]:
    """Generate on all ranks, while rank 0 shows the responses, or where they are to be JSON, how many there are."""
    if session.group.rank != 0:
        return session.engine.generate(())
    if options.output_kind == "text":
        live = LiveText(prompts, context=session.model.config.context, room=session.engine.context)
        return session.engine.generate(requests, live.extend, live.finish)
    done = itertools.count(1)
    progress = Progress("answered", unit=str)
    try:
        return session.engine.generate(requests, None, lambda *_: progress.update(next(done), len(requests)))
    finally:
        progress.close()


def requests_of(session: Session, options: GenerateOptions, prompts: Sequence[str]) -> list[Request]:
    """A request a prompt, each with a seed of its own; checked here, before anything is shown."""
    config = session.model.config
    requests = []
    for number, prompt in enumerate(prompts):
        requests.append(Request(tuple(session.tokenizer.encode(prompt)), options.params.nth(number)))
        requests[-1].check(config.vocab_size, config.context, session.engine.context)
    return requests


def _show(
    options: GenerateOptions, prompts: Sequence[str], completions: Sequence[Completion], report: dict[str, Any] | None
) -> None:
    """Write what the standard output is still asked to be; see the options `output` and `report`."""
    if options.output_kind == "json":
        document: dict[str, Any] = {
            "completions": [_document(*pair) for pair in zip(prompts, completions, strict=True)]
        }
        if options.report_kind == "json":
            document["report"] = report
        say(json.dumps(document))
    elif options.report_kind == "json":
        say(json.dumps(report))
    if options.report_kind == "text" and report is not None:
        (say if options.output_kind == "text" else aside)(report_text(report))


def _document(prompt: str, completion: Completion) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "response": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "response_tokens": len(completion.tokens),
        "rank": completion.rank,
    }
