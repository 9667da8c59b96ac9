"""The package's logger.

Modules call `get_logger(__name__)`. Nothing is printed until `cli/` installs a handler, and messages for
the user are logged on rank 0 only: `notice` takes care of that, once per message.
"""

import logging

from mixtralkit.env import launch_env

ROOT = "mixtralkit"
_noticed: set[str] = set()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; `name` is its `__name__`."""
    return logging.getLogger(name if name.startswith(ROOT) else f"{ROOT}.{name}")


def notice(logger: logging.Logger, message: str) -> None:
    """Log `message` as a warning, once a process and on rank 0 only.

    For fallbacks, ignored settings and other things a user should hear about but not hear twice.
    """
    if message in _noticed or launch_env().rank != 0:
        return
    _noticed.add(message)
    logger.warning(message)
