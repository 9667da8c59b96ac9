"""What happens between two steps: the placement follows the load, and the next step's dispatch and overlap are set."""

from collections import Counter
from collections.abc import Sequence

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.adaptive import AdaptivePlacement
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.shared_load import share_load
from mixtralkit.moe.step_choice import StepChooser

LOOK_STEPS = 8  # the ranks tell each other their load after so many steps
LOOK_TOKENS = 512  # or so many tokens of all ranks, whatever comes first
LONGEST = 16  # times as many at most, while looking changes nothing


class Steering:
    """`chooser` is None where nothing is left to choose, `adaptive` where the placement stays as it is."""

    def __init__(
        self,
        *,
        control: Collectives,
        load: ExpertLoad,
        arrangement: Arrangement,
        overlap: Overlap,
        placements: Sequence[Placement],
        chooser: StepChooser | None,
        adaptive: AdaptivePlacement | None,
    ) -> None:
        self.adaptive = adaptive
        self.chooser = chooser
        self.steps: Counter[tuple[str, int]] = Counter()  # by dispatch and number of parts
        self._control, self._load = control, load
        self._arrangement, self._overlap = arrangement, overlap
        self._placements = tuple(placements)
        self._patience = 1  # how many times LOOK_STEPS or LOOK_TOKENS to wait
        self._steps_since = self._tokens_since = 0

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Those in force, one a layer."""
        return self._placements if self.adaptive is None else self.adaptive.placements

    def before_step(self, tokens_W: Sequence[int]) -> None:
        """To be called by all ranks before a step in which rank w has `tokens_W[w]` tokens."""
        if self.chooser is not None or self.adaptive is not None:
            due = self._steps_since >= self._patience * LOOK_STEPS or self._tokens_since >= self._patience * LOOK_TOKENS
            if due:
                self._look()
            self._steps_since += 1
            self._tokens_since += sum(tokens_W)
        if self.chooser is not None:
            choice = self.chooser.choose(tokens_W)
            self._arrangement.use(choice.dispatch)
            self._overlap.chunks = choice.parts
        self.steps[self._arrangement.dispatch, self._overlap.chunks] += 1

    def _look(self) -> None:
        """See what the tokens since the last look asked for, and follow them; less often while that changes nothing."""
        self._load.mark_tokens(self._tokens_since)
        tokens_a_step = self._tokens_since / self._steps_since
        self._steps_since = self._tokens_since = 0
        demand_LWE = share_load(self._control, self._load, tokens_a_step * self._arrangement.top_k)
        moving = self.adaptive is not None and self.adaptive.look(demand_LWE, tokens_a_step)
        self._patience = 1 if moving else min(2 * self._patience, LONGEST)
        if self.chooser is not None:
            self.chooser.place(self.placements, demand_LWE)
