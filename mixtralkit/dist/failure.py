"""Why the group failed: what one rank did, told in the same words on every rank."""

import json
from dataclasses import asdict, dataclass

from mixtralkit.dist.member import Member
from mixtralkit.errors import MixtralKitError, RankFailure


@dataclass(frozen=True)
class Failure:
    """The first thing that went wrong in a group.

    `who` names rank, host and process; `what` continues the sentence: "was killed by SIGKILL". `error` is the
    message of an error that the rank itself raised, and `expected` tells that it is one for the user
    (`MixtralKitError`), which needs no traceback. `status` is the exit status that every rank then has.
    """

    rank: int
    who: str
    what: str
    where: str = ""
    error: str = ""
    traceback: str = ""
    expected: bool = False
    status: int = 1

    def __str__(self) -> str:
        seen = f"; last seen at {self.where}" if self.where else ""
        return f"{self.who} {self.what}{': ' if self.error else ''}{self.error}{seen}"

    def told_by_itself(self) -> str:
        """The words of the rank itself: with the traceback of its error, unless that is meant for the user."""
        if not self.error:  # the others gave this rank up
            return str(self)
        if self.expected:
            return self.error if self.rank == 0 else f"{self.who}: {self.error}"
        return f"{self.who} {self.what}{f' at {self.where}' if self.where else ''}:\n{self.traceback}"

    def to_json(self) -> str:
        """The fields as a JSON object."""
        return json.dumps(asdict(self))


def failure_from_json(content: bytes) -> Failure:
    """The inverse of `Failure.to_json`."""
    return Failure(**json.loads(content))


def loss(member: Member, what: str, where: str) -> Failure:
    """A rank that cannot speak for itself any more."""
    return Failure(rank=member.rank, who=str(member), what=what, where=where)


class GroupFailure(RankFailure):
    """`RankFailure` that carries the `failure` all ranks ended for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.exit_status = failure.status


def own_failure(member: Member, error: BaseException, trace: str, where: str) -> Failure:
    """What `error`, raised in this process, tells the other ranks; `trace` is its formatted traceback."""
    expected = isinstance(error, MixtralKitError)
    return Failure(
        rank=member.rank,
        who=str(member),
        what="failed",
        where=where,
        error=str(error) if expected else f"{type(error).__name__}: {error}",
        traceback="" if expected else trace,
        expected=expected,
        status=error.exit_status if isinstance(error, MixtralKitError) else 1,
    )
