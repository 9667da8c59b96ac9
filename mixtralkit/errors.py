"""The errors that a user can cause or meet, and nothing else.

Every message says what was given, what is allowed and what to do. A bug inside the package is an
`AssertionError` or whatever Python raises; it is never one of these.
"""


class MixtralKitError(Exception):
    """Base of all errors below; the command line prints it as one line and exits with `exit_status`."""

    exit_status = 1


class UsageError(MixtralKitError):
    """An option, an argument or an environment variable that cannot be accepted."""

    exit_status = 2


class ConfigError(MixtralKitError):
    """A params.json or config.json that does not describe a Mixtral."""


class CheckpointError(MixtralKitError):
    """A checkpoint that is missing, damaged, unsafe or not of the stated shape."""


class TokenizerError(MixtralKitError):
    """A tokenizer file that cannot be used, or text that it cannot encode."""


class RequestError(MixtralKitError):
    """A generation request that cannot be served as asked."""


class LaunchError(MixtralKitError):
    """The ranks could not start together, or do not believe the same things."""


class RankFailure(MixtralKitError):
    """A rank of the running group failed; the message names the rank, its host and the cause."""
