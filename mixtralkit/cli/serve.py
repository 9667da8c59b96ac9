"""`mixtralkit serve` and tools/serve.py: the HTTP server on rank 0, the engine on all ranks."""

import gc
import ipaddress
import signal
import threading

from mixtralkit.cli.progress import Progress
from mixtralkit.cli.ranks import run_on_ranks
from mixtralkit.cli.run_files import write_run_files
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.cli.session_settings import session_settings
from mixtralkit.cli.strategy_notices import notice_strategies
from mixtralkit.cli.terminal import aside, say, show_access_log
from mixtralkit.dist.launch import Group
from mixtralkit.dist.listening import listening_socket
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.snapshot import StepFacts
from mixtralkit.env import server_api_keys
from mixtralkit.errors import MixtralKitError
from mixtralkit.serve.api_keys import ApiKeys
from mixtralkit.serve.http_server import HttpServer
from mixtralkit.session.session import Session, open_session
from mixtralkit.sizes import counted

_LAST_WORDS = 0.8  # seconds for telling clients of a failure
# New objects between two looks for garbage, and how many looks go by before one at what survived the last, and at all.
# A connection leaves some 40 objects that know of each other: with as few looks as a program has that soon ends
# (main.py), they come to 16 MB, and a look keeps everybody waiting for 10 ms.
_COLLECTIONS = (10_000, 2, 2)


class StoppedLoading(MixtralKitError):
    """The server was told to stop before it was ready."""

    exit_status = 128 + signal.SIGTERM


class CutShort(MixtralKitError):
    """The server was stopped before all its requests had ended."""


def serve(options: ServeOptions) -> int:
    """Run the verb; returns the exit status."""
    service = Service(options)
    return run_on_ranks("serve", options, service.run, on_stop=service.stop, on_failure=service.fail)


class Service:
    """One rank's part: rank 0 has the server and hears clients, the others only compute."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._server: HttpServer | None = None
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._cut_off = 0

    def run(self, group: Group) -> None:
        """Load, serve until told to stop, and end in good order; all ranks together."""
        notice_strategies(self._options)
        if group.rank == 0:
            self._options.check_outputs()
            self._server = self._listen()
        session = self._load(group)
        _tidy_up()
        self._begin(session)
        session.engine.run()
        write_run_files(session, self._options)
        if self._server is not None:
            self._server.stop()
        if self._cut_off:
            raise CutShort(f"{counted(self._cut_off, 'request')} had not ended within --shutdown-timeout")

    def stop(self) -> None:
        """Take no more requests, and end when those that are there have ended, or run out of time.

        The other ranks have nothing to do: they leave with rank 0.
        """
        with self._lock:
            self._stopping = True
            server, engine = self._server, self._engine
        if server is None:
            return
        server.drain()
        if engine is not None:
            self._drain(server, engine)

    def fail(self, words: str) -> None:
        """Tell clients that the ranks have failed; the server's log, and nobody else, is told why."""
        if self._server is not None:
            self._server.fail("the engine has failed; the server's log tells why")
            self._server.wait_until_idle(_LAST_WORDS)

    def _listen(self) -> HttpServer:
        """Answer clients from now on, if only that the model is loading."""
        options = self._options
        keys = _api_keys(options)
        listener = listening_socket(options.host, options.port, host_setting="--host", port_setting="--port")
        if options.access_log:
            show_access_log()
        server = HttpServer(
            listener,
            model_name=options.model_name or options.model_weights.resolve().name,
            host=options.host,
            keys=keys,
            queue_limit=options.max_waiting,
            request_seconds=options.request_timeout,
        )
        server.start()
        if not keys and not _is_loopback(listener.getsockname()[0]):
            aside(f"mixtralkit: warning: anyone who reaches {server.url} can use the model: give it an --api-key-file")
        return server

    def _load(self, group: Group) -> Session:
        server = self._server
        progress = Progress("loading", show=server is not None)

        def tell(done: int, total: int) -> None:
            progress.update(done, total)
            if server is not None:
                server.loading(done, total)
                if self._stopping:
                    raise StoppedLoading("told to stop while the model was loading")

        options = self._options
        limits = EngineLimits(
            batch_size=options.batch_size,
            step_tokens=options.step_tokens,
            kv_tokens=options.kv_tokens,
            max_waiting=options.max_waiting,
            reuse_prefixes=options.prefix_reuse,
            drafts=options.drafts,
        )
        settings = session_settings(options, limits)
        try:
            return open_session(group, settings, tell, server.on_step if server is not None else _nobody)
        finally:
            progress.close()

    def _begin(self, session: Session) -> None:
        """Let the server have the engine, unless it has been told to stop meanwhile."""
        server, engine = self._server, session.engine
        with self._lock:
            self._engine = engine
            if server is None:
                return
            if self._stopping:
                engine.stop()
                return
            server.serve(engine, session.tokenizer, context=engine.context)
            room = counted(engine.kv_tokens, "token")
            say(f"serving {server.state.model_name} at {server.url}, with room for {room} of all requests")

    def _drain(self, server: HttpServer, engine: Engine) -> None:
        left = server.going_on
        if left:
            aside(f"stopping; {counted(left, 'request')} may go on for {self._options.shutdown_timeout:g} s")
        if not server.wait_until_idle(self._options.shutdown_timeout):
            self._cut_off = max(1, server.going_on)  # the last one may have ended since
        engine.stop(now=True)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _tidy_up() -> None:
    """From now on Python looks for garbage among what has come since: through what torch has it would take 0.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _nobody(facts: StepFacts) -> None:
    """Ranks other than 0 have no metrics."""


def _api_keys(options: ServeOptions) -> ApiKeys:
    """Those of the file and of the variable together."""
    named = ApiKeys() if options.api_key_file is None else ApiKeys.from_file(options.api_key_file)
    return named | ApiKeys.from_variable("MIXTRALKIT_API_KEYS", server_api_keys())
