"""What a node has measured of time, and what follows for how long it waits.

Silence is counted on a clock of its own, which runs only while this node could have heard somebody:
a step that comes late (no processor, a long write on the loop, a stopped process) counts as one on
time. A node that was held up itself therefore blames nobody for it.

A round trip is estimated as for TCP (Jacobson and Karels 1988; RFC 6298). How late a leader can be
is not, because its lateness has no usable mean or deviation: hardly ever any, then a stall of
hundreds of ms. The worst lateness is kept in its place, and halves every minute. What a detector
then says is what an accrual detector (Hayashibara et al. 2004) says at one threshold.
"""

from __future__ import annotations

from .config import PaxosConfig

LONGEST = 10
"""However late others are, no wait is longer than this many of the configured election timeout."""
DISK_PATIENCE = 10
"""After so many election timeouts without a write that ended, a leader's disk hangs: the others'
votes choose what it proposes, but it can take no snapshot, and its log fills."""
_HALF_LIFE_S = 60.0
_TICK_S = 1e-4
"""What is nearer than that is looked at a little late, rather than at times that round to now."""
_GRACE = 0.25
"""Of a heartbeat: how long after its connection ended a leader is given to be heard again."""


class Timing:
    """``now`` is the owner's monotonic clock, in seconds; ``time`` the clock of silences."""

    def __init__(self, config: PaxosConfig, now: float) -> None:
        self._config = config
        self._now = now
        self.time = now
        self.longest_s = LONGEST * config.election_timeout_s
        self._round_trip_s: float | None = None
        self._deviation_s = 0.0
        self._guessed = False
        self._lateness_s = 0.0
        self._late_at = now

    # The clock of silences ------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """It is ``now``: of the time since the last call, at most one step counts."""
        self.time += min(now - self._now, self._config.heartbeat_s)
        self._now = now

    def when(self, time: float) -> float:
        """When to look again, on the owner's clock, at something that is due at ``time``: after a
        step at the latest, so that the steps can be counted."""
        left_s = time - self.time
        if left_s <= 0.0:
            return self._now
        return self._now + min(max(left_s, _TICK_S), self._config.heartbeat_s)

    # Measurements ---------------------------------------------------------------------------

    def measured_round_trip(self, seconds: float) -> None:
        """A question was answered (by a quorum, where several were asked) after ``seconds``."""
        if self._round_trip_s is None or self._guessed:
            self._guessed = False
            self._round_trip_s, self._deviation_s = seconds, seconds / 2
        else:
            self._deviation_s += (abs(seconds - self._round_trip_s) - self._deviation_s) / 4
            self._round_trip_s += (seconds - self._round_trip_s) / 8

    def guessed_round_trip(self, seconds: float) -> None:
        """A question that was asked again and again was answered so long after the first time. It
        may say little (Karn and Partridge, SIGCOMM 1987), so the next measurement replaces it."""
        self.measured_round_trip(seconds)
        self._guessed = True

    def told_round_trip(self, milliseconds: int) -> None:
        """The leader says what it measured: a follower asks nobody anything by itself."""
        self._guessed = False
        self._round_trip_s, self._deviation_s = milliseconds / 1000, 0.0

    def measured_silence(self, seconds: float) -> None:
        """The leader was heard after a silence of ``seconds``. Silences far beyond the timeout are
        cuts and pauses, which foretell nothing."""
        lateness_s = seconds - self._config.heartbeat_s
        if self._lateness() < lateness_s <= 2 * self.timeout_s:
            self._lateness_s, self._late_at = lateness_s, self.time

    def _lateness(self) -> float:
        if self._lateness_s == 0.0:
            return 0.0
        return float(self._lateness_s * 0.5 ** ((self.time - self._late_at) / _HALF_LIFE_S))

    # What follows ---------------------------------------------------------------------------

    @property
    def round_trip_s(self) -> float:
        """What a round trip takes at most, as far as was measured; 0.0: nothing was."""
        if self._round_trip_s is None:
            return 0.0
        return min(self.longest_s, self._round_trip_s + 4 * self._deviation_s)

    @property
    def round_trip_ms(self) -> int:
        return int(self.round_trip_s * 1000)

    @property
    def timeout_s(self) -> float:
        """A silence after which a leader is given up: the configured one, or more where this
        leader has been late lately."""
        measured_s = self._config.heartbeat_s + 2 * self._lateness()
        return min(self.longest_s, max(self._config.election_timeout_s, measured_s))

    @property
    def quorum_timeout_s(self) -> float:
        """A silence of a majority after which a leader gives up: longer than a follower's, because
        to leave too early costs an election, and to stay too long costs nothing."""
        return 2 * self.timeout_s + self.round_trip_s

    @property
    def patience_s(self) -> float:
        """What one try to lead is given."""
        return self.timeout_s + self.round_trip_s

    @property
    def disk_patience_s(self) -> float:
        """See DISK_PATIENCE."""
        return DISK_PATIENCE * self._config.election_timeout_s

    @property
    def grace_s(self) -> float:
        """What a leader is given whose connection has ended."""
        return _GRACE * self._config.heartbeat_s

    @property
    def spread_s(self) -> float:
        """Within which followers become impatient one after another: the one that began first is
        heard of before the next one begins (Raft thesis, 9.3)."""
        return 2 * self._config.heartbeat_s + self.round_trip_s

    @property
    def resend_s(self) -> float:
        """A silence after which a message counts as lost."""
        return max(self._config.resend_s, self.round_trip_s)
