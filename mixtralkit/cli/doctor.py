"""`mixtralkit doctor`: what this machine and environment can run, and why something cannot be used."""

from collections.abc import Sequence

from mixtralkit.cli.findings import Finding, compilers, settings, software
from mixtralkit.cli.terminal import say


def doctor() -> int:
    """Run the verb; returns the exit status, 1 when something that everything needs is missing."""
    findings = [*software(), *compilers(), *settings()]
    if not _missing(findings):
        findings += _hardware()
    for finding in findings:
        say(f"{finding.state:<8} {finding.name:<16} {finding.words}")
    say("")
    say(_verdict(findings))
    return 1 if _missing(findings) else 0


def _hardware() -> list[Finding]:
    """What only torch can tell; it is imported once it is known to be there."""
    from mixtralkit.cli.hardware_findings import communication, gpus, native_kernels, processor

    return [*processor(), *native_kernels(), *gpus(), *communication()]


def _missing(findings: Sequence[Finding]) -> list[str]:
    return [finding.name for finding in findings if finding.state == "missing"]


def _verdict(findings: Sequence[Finding]) -> str:
    if missing := _missing(findings):
        return f"Nothing can run before there is {', '.join(missing)}."
    there = {finding.name for finding in findings if finding.state == "ok"}
    gpus = sum(name.startswith("cuda:") for name in there)
    on_cpu = "on the CPU, with one rank or several" if "gloo" in there else "on the CPU, with one rank"
    on_gpu = f", and on {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""
    return f"This machine runs checkpoints {on_cpu}{on_gpu}."
