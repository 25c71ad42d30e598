"""How many requests may be under way, how many a minute may start, and when a dead server is left alone.

Pure bookkeeping: the time is passed in (seconds of a clock that does not go back), nothing sleeps, nothing is sent.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from dataset_builder.captioning.requests import RateHint

START_LIMIT = 32  # requests at once after the first answer
COLD_LIMIT = 1  # requests at once until the first answer: a wrong key, model or empty account costs one request
CUT_FACTOR = 0.75  # of the limit, on pressure (as NeMo Data Designer 0.9.7)
SUCCESSES_PER_STEP = 25  # successes that raise the limit by one after the first pressure (Data Designer 0.9.7)
CEILING_FACTOR = 1.1  # the limit stays below this multiple of the last one that failed ...
CEILING_MEMORY_S = 300.0  # ... for so long
LATENCY_FACTOR = 2.0  # a p90 above this multiple of the baseline is pressure: vLLM answers slowly, it sends no 429
LATENCY_RELIEF = 0.95  # a cut that does not bring the p90 below this share of what it was has not met the cause
SMALLEST_WINDOW = 50  # successes; a p90 of fewer is noise
SLOW_WINDOWS = 2  # in a row make pressure: one in 26 windows of 50 is slow by chance if one answer in 20 is
FIRST_LATENCIES = 8  # the slowest of the first eight answers, while few are under way, is the first baseline
FIRST_TOKEN_IN_TOKENS = 50  # the time to the first token, counted in tokens, so that long answers aren't taken for slow

BURST_S = 2.0  # seconds of the rate that a bucket holds: a minute's worth would let two minutes' worth into one

OPENS_AFTER = 5  # failures in a row; below the engine's six tries, so that a dead server uses up no request
PROBE_FIRST_S = 0.5
PROBE_MOST_S = 60.0
PATIENCE_S = 600.0


@dataclass(frozen=True)
class LimitSnapshot:
    """What the progress panel shows of an `AdaptiveLimit`; `latency` is a p90 in seconds, None until it is known."""

    limit: int
    most: int
    ramping: bool
    rate_limits: int
    cuts: int
    latency: float | None


class AdaptiveLimit:
    """The number of requests that may be under way, learnt from how the server takes them.

    It starts at `start` (at `COLD_LIMIT` until the first answer) and grows by one a success, which doubles it every
    round, until the first pressure. From then on it falls to three quarters under pressure and grows by one per 25
    successes, for five minutes at most 10 % above the limit that failed. Pressure is a 429 or a time-out
    (`on_rate_limit`), or a p90 of the latency that stays above twice the baseline; whatever was sent before the last
    cut can't cut again, so a burst of 429 counts once. Never below 1, never above `most`.
    """

    def __init__(self, most: int, start: int = START_LIMIT) -> None:
        if most < 1 or start < 1:
            raise ValueError(f"most and start are at least 1, not {most} and {start}")
        self.most = most
        self._start = min(start, most)
        self._limit = float(min(self._start, COLD_LIMIT))
        self._cold = True
        self._ramping = True
        self._ceiling = math.inf
        self._ceiling_until = -math.inf
        self._last_cut = -math.inf
        self._rate_limits = 0
        self._cuts = 0
        self._successes = 0
        self._scaled: list[float] = []  # latencies of the window, comparable between long and short answers
        self._seconds: list[float] = []
        self._window_size = SMALLEST_WINDOW
        self._slow_windows = 0
        self._baseline: float | None = None
        self._first: list[float] = []
        self._before_cut: tuple[float, float, float, float] | None = None  # p90, limit and ceiling; a cut by latency
        self._latency: float | None = None

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._limit))

    def on_success(self, now: float, latency: float, sent_at: float, tokens: int | None = None) -> None:
        """Count an answer: `latency` in seconds, `tokens` of the answer when the server reports them."""
        if self._cold:
            self._cold = False
            if self._ramping:
                self._limit = float(self._start)
                self._open_window()
        if sent_at <= self._last_cut:
            return  # speaks of a limit that is no longer in force
        scaled = latency if tokens is None else latency / (tokens + FIRST_TOKEN_IN_TOKENS)
        if self._baseline is None:
            self._first.append(scaled)
            if len(self._first) == FIRST_LATENCIES:
                self._baseline = max(self._first)
        self._grow(now, scaled)
        self._seconds.append(latency)
        self._scaled.append(scaled)
        if len(self._scaled) >= self._window_size:
            self._close_window(now)

    def on_rate_limit(self, now: float, sent_at: float) -> bool:
        """Count a 429 or a time-out; True when it lowered the limit."""
        self._rate_limits += 1
        if sent_at <= self._last_cut:
            return False
        self._cut(now)
        return True

    def snapshot(self) -> LimitSnapshot:
        """The state for a progress panel."""
        return LimitSnapshot(self.limit, self.most, self._ramping, self._rate_limits, self._cuts, self._latency)

    def _grow(self, now: float, scaled: float) -> None:
        if self._before_cut is not None:
            return  # the window after a cut shows what the cut did
        if self._ramping:
            if self._baseline is not None and scaled > LATENCY_FACTOR * self._baseline:
                return  # it queues up: no room for more
            self._limit += 1
        else:
            self._successes += 1
            if self._successes < SUCCESSES_PER_STEP:
                return
            self._successes = 0
            self._limit += 1
        ceiling = self._ceiling if now < self._ceiling_until else math.inf
        self._limit = max(1.0, min(self._limit, self.most, ceiling))

    def _open_window(self) -> None:
        self._scaled.clear()
        self._seconds.clear()
        self._window_size = max(SMALLEST_WINDOW, self.limit)  # about one round of the requests under way

    def _close_window(self, now: float) -> None:
        p90 = _p90(self._scaled)
        self._latency = _p90(self._seconds)
        self._open_window()
        assert self._baseline is not None  # the first answers are fewer than a window
        before, self._before_cut = self._before_cut, None
        if before is not None and p90 > LATENCY_RELIEF * before[0]:
            # Fewer requests did not make it quicker: the server itself has become slower. The cut is undone.
            self._baseline = p90
            _, self._limit, self._ceiling, self._ceiling_until = before
        elif p90 <= LATENCY_FACTOR * self._baseline:
            self._baseline = min(p90, self._baseline)
            self._slow_windows = 0
        elif self.limit > 1:
            self._slow_windows += 1
            if self._slow_windows == SLOW_WINDOWS:
                before = (p90, self._limit, self._ceiling, self._ceiling_until)
                self._cut(now)
                self._before_cut = before

    def _cut(self, now: float) -> None:
        failed = self.limit
        self._ramping = False
        self._ceiling = max(failed + 1.0, failed * CEILING_FACTOR)
        self._ceiling_until = now + CEILING_MEMORY_S
        self._limit = max(1.0, self._limit * CUT_FACTOR)
        self._last_cut = now
        self._successes = self._slow_windows = 0
        self._cuts += 1
        self._before_cut = None
        self._open_window()


def _p90(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


class _Bucket:
    """Holds `BURST_S` of a rate and refills steadily; a debt is worked off before the next request."""

    def __init__(self, wanted: float | None) -> None:
        self.wanted = wanted  # a minute, by the user
        self.learnt: float | None = None  # a minute, by the server
        self._level = math.inf
        self._at = -math.inf

    @property
    def per_minute(self) -> float | None:
        known = [rate for rate in (self.wanted, self.learnt) if rate is not None]
        return min(known) if known else None

    def _refill(self, now: float) -> tuple[float, float]:
        """The rate a second and the most that the bucket holds, after bringing its level up to `now`."""
        rate = (self.per_minute or math.inf) / 60
        capacity = max(1.0, rate * BURST_S)
        if math.isinf(self._at) or math.isinf(rate):
            self._level = min(self._level, capacity)
        else:
            self._level = min(capacity, self._level + max(0.0, now - self._at) * rate)
        self._at = max(self._at, now)
        return rate, capacity

    def wait(self, now: float, cost: float) -> float:
        rate, capacity = self._refill(now)
        missing = min(cost, capacity) - self._level  # a cost above the capacity goes when the bucket is full
        return missing / rate if missing > 1e-9 * capacity else 0.0

    def take(self, now: float, cost: float) -> None:
        self._refill(now)
        self._level -= cost

    def give(self, cost: float) -> None:
        self._level += cost  # the next refill takes away what no longer fits

    def lower(self, remaining: float) -> None:
        self._level = min(self._level, remaining)


class RateBuckets:
    """Requests and tokens a minute that may start: the user's limits, the server's own, whichever is lower.

    `rpm` and `tpm` are limits of the whole account, None for no limit; `share` is the part of them that belongs to
    this process (1/N for one of N shards), of the learnt limits too. A request larger than a bucket holds goes when
    the bucket is full and is paid off afterwards.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None, share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is above 0 and at most 1, not {share}")
        for name, value in (("rpm", rpm), ("tpm", tpm)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is above 0, not {value}")
        self._share = share
        self._requests = _Bucket(rpm * share if rpm else None)
        self._tokens = _Bucket(tpm * share if tpm else None)

    @property
    def rpm(self) -> float | None:
        """Requests a minute that are kept to now; None: no limit is known."""
        return self._requests.per_minute

    @property
    def tpm(self) -> float | None:
        """Tokens a minute that are kept to now; None: no limit is known."""
        return self._tokens.per_minute

    def wait(self, now: float, tokens: float) -> float:
        """Seconds until a request of `tokens` (prompt and expected answer) may start; 0 when it may start now."""
        return max(self._requests.wait(now, 1), self._tokens.wait(now, tokens))

    def take(self, now: float, tokens: float) -> None:
        """Book a request that is being sent."""
        self._requests.take(now, 1)
        self._tokens.take(now, tokens)

    def settle(self, reserved: float, used: float) -> None:
        """Replace the `reserved` tokens of a finished request by those it really `used`."""
        self._tokens.give(reserved - used)

    def learn(self, hint: RateHint | None) -> None:
        """Take over what the server says of its limits; a lower limit of the user stays.

        A provider that counts requests by the day under the same header gives a limit too high to matter.
        """
        if hint is None:
            return
        for bucket, limit, remaining in (
            (self._requests, hint.requests_per_minute, hint.remaining_requests),
            (self._tokens, hint.tokens_per_minute, hint.remaining_tokens),
        ):
            if limit is not None and limit > 0:
                bucket.learnt = limit * self._share
            if remaining is not None and remaining >= 0 and bucket.per_minute is not None:
                bucket.lower(remaining * self._share)


class CircuitBreaker:
    """Stops the traffic to a server that is down and finds out when it is back.

    It opens after `opens_after` faults `unavailable` in a row without a success; while it is open one probe at a time
    goes out, after pauses anywhere between nothing and a ceiling that grows from 0.5 to 60 s. A success closes it, and
    so does a probe that meets a 429 or a refusal: only a server that works sends those.
    """

    def __init__(
        self, patience_s: float = PATIENCE_S, opens_after: int = OPENS_AFTER, rng: random.Random | None = None
    ) -> None:
        self.patience_s = patience_s
        self._opens_after = opens_after
        self._random = rng or random.Random()
        self._in_a_row = 0
        self._open = False
        self._probing = False
        self._probes_failed = 0
        self._next_probe = 0.0
        self._failing_since: float | None = None

    @property
    def open(self) -> bool:
        """Whether only probes go out."""
        return self._open

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent: 0 now, infinity while a probe is under way (its result decides)."""
        if not self._open:
            return 0.0
        return math.inf if self._probing else max(0.0, self._next_probe - now)

    def on_send(self) -> bool:
        """Note that a request is sent; True when it is the probe, whose failure is no try of its request."""
        if self._open:
            self._probing = True
        return self._open

    def on_success(self) -> None:
        """An answer came, to a probe or to a request from before: the traffic flows again."""
        self._failing_since = None
        self._close()

    def on_fault(self, now: float, kind: str, probe: bool = False) -> None:
        """Count a `Fault.kind`; `probe` is what `on_send` said of the request."""
        if self._failing_since is None:
            self._failing_since = now
        if probe and self._open:
            self._probing = False
            if kind in ("rate_limited", "refused"):
                self._close()
            else:
                self._probes_failed += 1
                self._schedule_probe(now)
        elif not self._open and kind == "unavailable":
            self._in_a_row += 1
            if self._in_a_row >= self._opens_after:
                self._open = True
                self._schedule_probe(now)

    def expired(self, now: float) -> bool:
        """Whether nothing has succeeded for `patience_s` since the first of the faults: the run had better stop."""
        return self._failing_since is not None and now - self._failing_since >= self.patience_s

    def _close(self) -> None:
        self._open = self._probing = False
        self._in_a_row = self._probes_failed = 0

    def _schedule_probe(self, now: float) -> None:
        ceiling = min(PROBE_MOST_S, PROBE_FIRST_S * 2.0 ** min(self._probes_failed, 30))
        self._next_probe = now + self._random.uniform(0, ceiling)
