"""`mixtralkit bench serve`: how fast a server answers, under a load that this program makes."""

import asyncio
import signal
from pathlib import Path

from mixtralkit.bench.load.load_figures import figures_of
from mixtralkit.cli.bench_outputs import check_plot
from mixtralkit.cli.bench_serve_document import load_document, write_load
from mixtralkit.cli.bench_serve_options import BenchServeOptions
from mixtralkit.cli.bench_serve_progress import LoadProgress
from mixtralkit.cli.interrupt import INTERRUPTED
from mixtralkit.cli.terminal import aside
from mixtralkit.env import client_api_key
from mixtralkit.errors import UsageError
from mixtralkit.sizes import counted


def bench_serve(options: BenchServeOptions) -> int:
    """Run the verb; returns the exit status: 0 when anything was answered. Ctrl-C ends the load, and then there is
    still a report; while the server is warmed up it ends all.
    """
    check_plot(options.plot)
    from mixtralkit.bench.load.load_test import LoadResult, LoadTest, Target

    target = Target(options.url, options.model, _key(options), options.vocab_size, options.timeout)
    progress = LoadProgress(options.requests)

    async def measure() -> tuple[LoadResult, bool]:
        stopping = asyncio.Event()

        def begin() -> asyncio.Event:
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopping.set)
            return stopping

        found = await LoadTest(target, options.plan(), begin, progress.update).run()
        return found, stopping.is_set()

    if options.warm_up:
        aside(f"warming {options.url} up with {counted(options.warm_up, 'request')}")

    try:
        found, interrupted = asyncio.run(measure())
    finally:
        progress.close()
    figures = figures_of(found.results)
    write_load(options, load_document(options, found, figures))
    return INTERRUPTED if interrupted else int(not figures.answered)


def _key(options: BenchServeOptions) -> str | None:
    """The key that the server wants, if any; raises `UsageError` for one that no HTTP header can carry."""
    if options.api_key_file is None:
        place, key = "MIXTRALKIT_API_KEY", client_api_key()
    else:
        place, key = f"what {options.api_key_file} begins with", _first_key(options.api_key_file)
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(f"{place} is no API key: printable ASCII without spaces is needed")
    return key


def _first_key(file: Path) -> str:
    """The first key of a file as the server reads it: empty lines and lines that begin with # do not count."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the API key in {file}: {error}") from error
    return next((line for line in lines if line and not line.startswith("#")), "")
