"""Why a step is done as it is, in a sentence."""

from mixtralkit.moe.steering_setup import cuts_of
from mixtralkit.moe.step_choice import WORTH_IT, Choice
from mixtralkit.session.session import Session
from mixtralkit.sizes import counted


def reason(session: Session, choice: Choice, whole_seconds: float, among: tuple[str, ...]) -> str:
    """For `choice` `among` dispatches, the fastest of which is predicted to take `whole_seconds` in one piece."""
    fastest = "faster" if len(among) == 2 else "fastest"
    chosen = f"predicted to be the {fastest} of {' and '.join(among)}" if len(among) > 1 else session.dispatch.reason
    parts = _parts(session, choice, whole_seconds)
    return f"{choice.dispatch} ({chosen}), {parts}, {_placed(session)}"


def _parts(session: Session, choice: Choice, whole_seconds: float) -> str:
    strategies = session.strategies
    if not strategies.overlaps:
        return "in one piece (overlap is off)"
    if strategies.overlap != "auto":
        return f"in {counted(choice.parts, 'part')} (as asked)"
    if cuts_of(session.strategies, session.group) == (1,):
        return "in one piece (there is one group, or one host, where the cores that compute move the rows)"
    if choice.parts == 1:
        return f"in one piece (no cut is predicted to save {1 - WORTH_IT:.0%})"
    saved = 1 - choice.seconds / whole_seconds
    return f"in {choice.parts} parts (predicted to save {saved:.0%} of the time in one piece)"


def _placed(session: Session) -> str:
    strategies, adaptive = session.strategies, session.steered.steering.adaptive
    if adaptive is not None:
        return f"experts placed by load ({counted(adaptive.moves.replicas_fetched, 'replica')} fetched so far)"
    asked = strategies.plan_file is not None or bool(strategies.hot_experts)
    return "experts placed as asked" if asked else "experts placed evenly"
