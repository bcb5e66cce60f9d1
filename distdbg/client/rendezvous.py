"""Where ranks that were stopped meet: which stops are the same logical call, who is still to come, when it is a stop.

Ranks do not stop together. A breakpoint that is set while they run finds them at different places; a condition may be
true on one of them. So a rank that meets a rule parks and says so, and here it is decided: all there and one wants to
stop: announce; all there and none wants to: let them go; somebody has passed this point before the rule reached it: let
the others go on too, they meet the next time round. Pure: no socket, thread or clock in here, `now` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distdbg.schema.ranks import Ranks
from distdbg.schema.stop import Clock, Stop

WANTED_GRACE_S = 1.0
"""How long a stop waits for the ranks that are still to come before it is announced without them."""
UNWANTED_GRACE_S = 5.0
"""How long ranks whose condition is false wait for one whose condition might be true."""
UNSURE_GRACE_S = 0.5
"""How long to wait for a rank of which we cannot tell whether it has passed this point already."""
MAX_RETRIES = 5


@dataclass
class Meeting:
    """Ranks parked at one logical point."""

    key: str
    rule: int
    since: float
    stops: dict[int, Stop] = field(default_factory=dict)
    is_announced: bool = False
    is_late: bool = False
    """Announced before, and somebody has joined since."""

    @property
    def is_wanted(self) -> bool:
        """Whether any rank's condition was true."""
        return any(stop.wanted for stop in self.stops.values())

    @property
    def speaker(self) -> Stop:
        """The stop to show for all: the lowest rank's whose condition was true."""
        return min(self.stops.items(), key=lambda item: (not item[1].wanted, item[0]))[1]

    def fits(self, stop: Stop) -> bool:
        """Whether a stop is at this same point: equal counts on every group shared with those who are here."""
        return all(_compare(stop.clock, other.clock) == 0 for other in self.stops.values())

    def is_passed_by(self, clock: Clock) -> bool:
        """Whether a rank at `clock` is beyond this point."""
        return any(_compare(clock, stop.clock) > 0 for stop in self.stops.values())

    def is_ahead_of(self, clock: Clock) -> bool:
        """Whether a rank at `clock` has yet to come here, for sure."""
        return any(_compare(clock, stop.clock) < 0 for stop in self.stops.values())


@dataclass(frozen=True)
class Announce:
    """This is a stop."""

    meeting: Meeting


@dataclass(frozen=True)
class Release:
    """Let these ranks go on: nobody wanted to stop here, or not all can."""

    meeting: Meeting


Decision = Announce | Release


class Rendezvous:
    """All meetings of a session. `expected` below is rule id -> the ranks that can meet it."""

    def __init__(self) -> None:
        self.meetings: list[Meeting] = []
        # rule id -> rank -> its clock just after the rule was installed there while ranks ran
        self._armed_at: dict[int, dict[int, Clock]] = {}
        self._num_retries: dict[int, int] = {}
        self._seen_at: dict[int, Clock] = {}  # rank -> the clock of its last stop

    def arm(self, rule: int, clocks: Mapping[int, Clock]) -> None:
        """A rule was installed while ranks ran: until all have met at it once, some may have passed it unseen."""
        self._armed_at[rule] = dict(clocks)
        self._num_retries[rule] = 0

    def arrive(self, rank: int, stop: Stop, now: float) -> Meeting:
        """A rank has parked."""
        key = meeting_key(stop)
        for meeting in self.meetings:
            if meeting.key == key and meeting.fits(stop):
                break
        else:
            meeting = Meeting(key, stop.rule, now)
            self.meetings.append(meeting)
        meeting.stops[rank] = stop
        self._seen_at[rank] = stop.clock
        if meeting.is_announced:
            meeting.is_announced, meeting.is_late = False, True
        return meeting

    def leave(self, rank: int) -> None:
        """A rank went on, or away."""
        for meeting in self.meetings:
            meeting.stops.pop(rank, None)
        self.meetings = [meeting for meeting in self.meetings if meeting.stops]

    def decide(self, expected: Mapping[int, Ranks], alive: Ranks, now: float) -> list[Decision]:
        """What is to be done now. A released meeting is forgotten; the caller sends its ranks on."""
        decisions: list[Decision] = []
        for meeting in [meeting for meeting in self.meetings if not meeting.is_announced]:
            decision = self._decide_one(meeting, expected.get(meeting.rule, alive) & alive, now)
            if isinstance(decision, Release):
                self.meetings.remove(meeting)
            elif isinstance(decision, Announce):
                meeting.is_announced = True
            if decision is not None:
                decisions.append(decision)
        return decisions

    def deadline(self) -> float | None:
        """When `decide` may say something new without anybody arriving; None when nobody waits."""
        waiting = [meeting.since for meeting in self.meetings if not meeting.is_announced]
        return min(waiting) + UNSURE_GRACE_S if waiting else None

    def _decide_one(self, meeting: Meeting, expected: Ranks, now: float) -> Decision | None:
        missing = expected - meeting.stops.keys()
        if not missing:
            self._armed_at.pop(meeting.rule, None)
            return Announce(meeting) if meeting.is_wanted else Release(meeting)
        waited = now - meeting.since
        if meeting.rule in self._armed_at and self._num_retries[meeting.rule] < MAX_RETRIES:
            clocks = {rank: self._clock_of(rank, meeting.rule) for rank in missing}
            if any(meeting.is_passed_by(clock) for clock in clocks.values()):
                return Release(meeting)
            is_unsure = any(not meeting.is_ahead_of(clock) for clock in clocks.values())
            if is_unsure and waited > UNSURE_GRACE_S:
                self._num_retries[meeting.rule] += 1
                return Release(meeting)
        # Whoever is parked elsewhere cannot come: a watch that changed on one rank, and the others called to its side.
        elif all(any(rank in other.stops for other in self.meetings) for rank in missing) and meeting.is_wanted:
            return Announce(meeting)
        if meeting.is_wanted and (meeting.is_late or waited > WANTED_GRACE_S):
            return Announce(meeting)
        if not meeting.is_wanted and waited > UNWANTED_GRACE_S:
            return Release(meeting)
        return None

    def _clock_of(self, rank: int, rule: int) -> Clock:
        for meeting in self.meetings:  # parked elsewhere: that is where it is
            if rank in meeting.stops:
                return meeting.stops[rank].clock
        armed = self._armed_at[rule].get(rank, {})
        seen = self._seen_at.get(rank, {}) if armed else {}  # let go since then: it is at least there
        return {group: max(count, seen.get(group, 0)) for group, count in armed.items()}


def meeting_key(stop: Stop) -> str:
    """Equal for stops at the same place of the program."""
    is_recompute = getattr(stop.event, "is_recompute", False)
    return f"{stop.rule} {stop.event.name} {stop.event.subject}{' recompute' if is_recompute else ''}"


def _compare(ours: Clock, theirs: Clock) -> int:
    """1: ours is later on some group that both are in; -1: earlier on some; 0: equal, or no group in common."""
    differences = [count - theirs[group] for group, count in ours.items() if group in theirs]
    if any(difference > 0 for difference in differences):
        return 1
    return -1 if any(difference < 0 for difference in differences) else 0
