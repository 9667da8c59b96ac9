"""The exception of a library that is not to be built on this machine, which is no failure of the build."""


class LeftOut(Exception):
    """A tool or a header is missing, or nobody wants this library here; the message says so, and what to do."""
