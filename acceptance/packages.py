"""The clients' packages, in the versions that were tried, and an environment of its own for each."""

from pathlib import Path

from benchmarks.peers.environments import Package, installed

PACKAGES = {
    "openai": ("openai==3.54.0",),
    "lm-eval": ("lm-eval[api]==0.4.13",),
    # With a torch that is named, or it would bring the newest one; and with what reads the demo's tokenizer.
    "guidellm": ("torch==2.13.0", "sentencepiece==0.2.3", "guidellm==0.8.1"),
    "aiperf": ("aiperf==0.13.0",),
    "schemathesis": ("schemathesis==4.32.5",),
    "prometheus": ("prometheus-client==0.26.0",),
}


def python_of(client: str, folder: Path) -> Path:
    """The Python that has the client, in an environment below `folder`.

    Raises `RuntimeError` when the client cannot be installed.
    """
    requirements = PACKAGES[client]
    name = requirements[-1]
    return installed(Package(name, requirements), (folder / name.replace("[api]", "")).absolute())
