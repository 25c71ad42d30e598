"""The limits against simulated servers and a clock of the tests' own: no sleeping, no sockets."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable

import pytest

from dataset_builder.captioning.limits import (
    CEILING_MEMORY_S,
    COLD_LIMIT,
    OPENS_AFTER,
    SMALLEST_WINDOW,
    AdaptiveLimit,
    CircuitBreaker,
    RateBuckets,
)
from dataset_builder.captioning.requests import RateHint

Serve = Callable[[float, int], "tuple[str, float]"]


class Simulation:
    """Keeps `limit.limit` requests under way at a server; `serve(now, under_way)` gives (outcome, latency)."""

    def __init__(self, limit: AdaptiveLimit, serve: Serve) -> None:
        self.limit = limit
        self.serve = serve
        self.now = 0.0
        self.sent: list[float] = []
        self.limits: list[tuple[float, int]] = []
        self.refusals: list[float] = []
        self.answers = 0
        self._under_way: list[tuple[float, int, float, str]] = []

    def run(self, seconds: float) -> Simulation:
        end = self.now + seconds
        while True:
            while len(self._under_way) < self.limit.limit:
                outcome, latency = self.serve(self.now, len(self._under_way) + 1)
                heapq.heappush(self._under_way, (self.now + latency, len(self.sent), self.now, outcome))
                self.sent.append(self.now)
            if self._under_way[0][0] > end:
                self.now = end
                return self
            self.now, _, sent_at, outcome = heapq.heappop(self._under_way)
            if outcome == "ok":
                self.answers += 1
                self.limit.on_success(self.now, self.now - sent_at, sent_at)
            else:
                self.refusals.append(self.now)
                self.limit.on_rate_limit(self.now, sent_at)
            self.limits.append((self.now, self.limit.limit))

    def limits_after(self, time: float) -> list[int]:
        return [limit for at, limit in self.limits if at >= time]


def quick(now: float, under_way: int) -> tuple[str, float]:
    return "ok", 0.2


def refusing_above(capacity: int, rng: random.Random) -> Serve:
    def serve(now: float, under_way: int) -> tuple[str, float]:
        return ("ok", rng.uniform(0.8, 1.2)) if under_way <= capacity else ("429", 0.02)

    return serve


def batching(knee: int, rng: random.Random, seconds: Callable[[float], float] = lambda now: 1.0) -> Serve:
    """vLLM-like: up to `knee` at once cost little, above it they queue; it never refuses."""

    def serve(now: float, under_way: int) -> tuple[str, float]:
        queue = max(0, under_way - knee) / knee
        return "ok", seconds(now) * (1 + 0.3 * min(under_way, knee) / knee + 2 * queue) * rng.uniform(0.9, 1.1)

    return serve


def successes(limit: AdaptiveLimit, count: int, now: float, latency: float = 0.1) -> None:
    for _ in range(count):
        limit.on_success(now, latency, now - 1e-3)


def warm(most: int = 512, start: int = 32) -> AdaptiveLimit:
    limit = AdaptiveLimit(most, start)
    limit.on_success(0.1, 0.1, 0.0)
    return limit


# --- AdaptiveLimit ---


def test_a_server_that_has_not_answered_yet_is_asked_by_few_and_then_by_the_start() -> None:
    limit = AdaptiveLimit(512)
    assert limit.limit == COLD_LIMIT
    limit.on_success(60.0, 60.0, 0.0)
    assert limit.limit in (32, 33)


def test_before_the_first_pressure_the_limit_doubles_every_round_up_to_the_most() -> None:
    run = Simulation(AdaptiveLimit(512), quick)
    run.run(0.3)
    assert 32 <= run.limit.limit <= 36
    for expected in (64, 128, 256):
        run.run(0.2)
        assert expected <= run.limit.limit <= expected * 1.15
    run.run(1.0)
    assert run.limit.limit == 512
    assert run.limit.snapshot().cuts == 0


def test_the_limit_settles_near_the_capacity_of_a_server_that_refuses_above_80() -> None:
    run = Simulation(AdaptiveLimit(512), refusing_above(80, random.Random(1))).run(400)
    settled = run.limits_after(60)
    assert min(settled) >= 58
    assert max(settled) <= 96
    assert 65 <= statistics.mean(settled) <= 85
    assert len(run.refusals) / len(run.sent) < 0.05


def test_most_and_one_are_never_crossed() -> None:
    assert AdaptiveLimit(1).limit == 1
    limit = warm(10)
    successes(limit, 500, 1.0)
    assert limit.limit == 10
    for second in range(100):
        limit.on_rate_limit(10.0 + second, 9.9 + second)
    assert limit.limit == 1
    with pytest.raises(ValueError, match="at least 1"):
        AdaptiveLimit(0)


def test_a_burst_of_429_from_requests_sent_before_the_cut_cuts_once() -> None:
    limit = warm(512, start=100)
    before = limit.limit
    assert limit.on_rate_limit(5.0, 4.0) is True
    after = limit.limit
    assert after == int(before * 0.75)
    assert not any(limit.on_rate_limit(5.0 + 0.001 * number, 4.5) for number in range(200))
    assert limit.limit == after
    assert limit.snapshot().rate_limits == 201
    assert limit.on_rate_limit(6.0, 5.5) is True
    assert limit.limit == int(after * 0.75)


def test_successes_from_before_the_cut_do_not_raise_the_limit() -> None:
    limit = warm(512, start=100)
    limit.on_rate_limit(5.0, 4.0)
    after = limit.limit
    for _ in range(200):
        limit.on_success(5.1, 0.5, 4.6)
    assert limit.limit == after


def test_after_a_cut_the_limit_grows_by_one_per_25_successes_and_stays_near_the_one_that_failed() -> None:
    limit = warm(512, start=100)
    limit.on_rate_limit(5.0, 4.0)
    after = limit.limit
    successes(limit, 24, 6.0)
    assert limit.limit == after
    successes(limit, 1, 6.0)
    assert limit.limit == after + 1
    successes(limit, 25 * 200, 7.0)
    assert limit.limit == 111  # 10 % above 101
    successes(limit, 25 * 10, 5.0 + CEILING_MEMORY_S + 1)
    assert limit.limit == 121


def test_a_server_that_slows_down_under_load_is_held_near_its_knee_without_one_429() -> None:
    run = Simulation(AdaptiveLimit(512), batching(96, random.Random(2))).run(600)
    settled = run.limits_after(120)
    assert 96 <= statistics.mean(settled) <= 200
    assert max(settled) <= 260
    assert not run.refusals


def test_a_slow_serial_server_keeps_at_least_one_request_and_loses_no_throughput() -> None:
    free = [0.0]

    def serve(now: float, under_way: int) -> tuple[str, float]:
        free[0] = max(free[0], now) + 10.0
        return "ok", free[0] - now

    run = Simulation(AdaptiveLimit(512), serve).run(20_000)
    assert min(run.limits_after(0)) >= 1
    assert run.answers >= 1_990
    assert max(run.limits_after(10_000)) < 30


def test_a_few_slow_answers_are_no_pressure() -> None:
    limit = warm(64, start=8)
    rng = random.Random(3)
    for number in range(2_000):
        slow = rng.random() < 0.05
        limit.on_success(1.0 + number * 0.1, 9.0 if slow else rng.uniform(0.5, 1.0), 0.5 + number * 0.1)
    assert limit.snapshot().cuts == 0
    assert limit.limit == 64


def test_one_slow_window_is_chance_and_the_second_in_a_row_cuts_once() -> None:
    limit = AdaptiveLimit(8, start=8)
    successes(limit, SMALLEST_WINDOW, 1.0, latency=0.1)
    for second in (2.0, 4.0, 6.0):
        successes(limit, SMALLEST_WINDOW, second, latency=9.0)
        successes(limit, SMALLEST_WINDOW, second + 1, latency=0.1)
    successes(limit, 2 * SMALLEST_WINDOW - 1, 8.0, latency=9.0)
    assert (limit.limit, limit.snapshot().cuts) == (8, 0)
    successes(limit, SMALLEST_WINDOW, 9.0, latency=9.0)
    assert (limit.limit, limit.snapshot().cuts) == (6, 1)


def test_a_cut_that_does_not_make_the_server_quicker_is_undone_and_not_repeated() -> None:
    limit = AdaptiveLimit(40, start=40)
    successes(limit, 2 * SMALLEST_WINDOW, 1.0, latency=0.1)
    successes(limit, 2 * SMALLEST_WINDOW, 2.0, latency=5.0)
    assert limit.limit == 30
    successes(limit, SMALLEST_WINDOW - 1, 3.0, latency=5.0)
    assert limit.limit == 30  # it does not grow until the cut is judged
    successes(limit, 1, 3.0, latency=5.0)
    assert limit.limit == 40
    successes(limit, 10 * SMALLEST_WINDOW, 4.0, latency=5.0)
    assert (limit.limit, limit.snapshot().cuts) == (40, 1)


def test_a_cut_begins_a_new_window() -> None:
    limit = AdaptiveLimit(40, start=40)
    successes(limit, SMALLEST_WINDOW - 1, 1.0)
    limit.on_rate_limit(2.0, 1.5)
    successes(limit, SMALLEST_WINDOW - 1, 3.0)
    assert limit.snapshot().latency is None
    successes(limit, 1, 3.0)
    assert limit.snapshot().latency is not None


def test_a_server_that_becomes_slower_by_itself_does_not_push_the_limit_down_for_ever() -> None:
    serve = batching(400, random.Random(4), lambda now: 1.0 if now < 100 else 3.0)
    run = Simulation(AdaptiveLimit(128), serve).run(1_000)
    assert min(run.limits_after(100)) >= 60
    assert statistics.mean(run.limits_after(300)) >= 110


def test_long_answers_are_not_taken_for_a_slow_server() -> None:
    for tokens_told, cut in ((True, False), (False, True)):
        limit = warm(64, start=16)
        for number, tokens in enumerate([40] * 400 + [400] * 400):
            latency = 0.5 + 0.01 * tokens
            now = 10.0 + number
            limit.on_success(now, latency, now - latency, tokens if tokens_told else None)
        assert (limit.snapshot().cuts > 0) is cut


def test_the_snapshot_tells_the_latency_in_seconds() -> None:
    limit = AdaptiveLimit(16, start=4)
    assert limit.snapshot().latency is None
    for number in range(SMALLEST_WINDOW):
        limit.on_success(float(number), 0.7, number - 0.7, tokens=50)
    snapshot = limit.snapshot()
    assert snapshot.latency == pytest.approx(0.7)
    assert (snapshot.limit, snapshot.most, snapshot.ramping) == (16, 16, True)


# --- RateBuckets ---


def starts(buckets: RateBuckets, tokens: Iterable[float], until: float) -> list[float]:
    """When requests of `tokens` start if each goes as soon as it may."""
    now, times = 0.0, []
    for size in tokens:
        now += buckets.wait(now, size)
        if now > until:
            break
        assert buckets.wait(now, size) == 0.0
        buckets.take(now, size)
        times.append(now)
    return times


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(1 for other in times if start <= other < start + 60) for start in times)


def test_without_limits_nothing_waits() -> None:
    assert starts(RateBuckets(), [1e9] * 1_000, 1.0) == [0.0] * 1_000


@pytest.mark.parametrize("rpm", [3, 60, 600])
def test_no_minute_sees_more_requests_than_allowed_but_for_the_first_burst(rpm: int) -> None:
    times = starts(RateBuckets(rpm=rpm), [1.0] * rpm * 10, 300.0)
    assert most_in_a_minute(times) <= rpm + max(1, rpm * 2 / 60) + 1
    assert len(times) >= rpm * 5


def test_tokens_are_kept_to_and_unused_ones_come_back() -> None:
    buckets = RateBuckets(tpm=6_000)
    times = starts(buckets, [100.0] * 1_000, 120.0)
    assert 119 <= len(times) <= 124
    settled = RateBuckets(tpm=6_000)
    now, count = 0.0, 0
    while now < 120.0:
        now += settled.wait(now, 100.0)
        settled.take(now, 100.0)
        settled.settle(reserved=100.0, used=50.0)
        count += 1
    assert 238 <= count <= 250


def test_more_tokens_than_reserved_are_paid_off_later() -> None:
    buckets = RateBuckets(tpm=6_000)
    buckets.take(0.0, 100.0)
    buckets.settle(reserved=100.0, used=700.0)
    assert buckets.wait(0.0, 100.0) == pytest.approx(6.0)


def test_a_request_larger_than_the_bucket_goes_when_the_bucket_is_full() -> None:
    times = starts(RateBuckets(tpm=6_000), [3_000.0] * 5, 1e9)
    assert times[0] == 0.0
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([30.0] * 4)


def test_limits_are_learnt_and_the_lower_of_user_and_server_counts() -> None:
    buckets = RateBuckets(rpm=100)
    buckets.learn(None)
    buckets.learn(RateHint(requests_per_minute=500, tokens_per_minute=9_000))
    assert (buckets.rpm, buckets.tpm) == (100, 9_000)
    buckets.learn(RateHint(requests_per_minute=40))
    assert (buckets.rpm, buckets.tpm) == (40, 9_000)
    buckets.learn(RateHint(requests_per_minute=0, tokens_per_minute=-1))
    assert (buckets.rpm, buckets.tpm) == (40, 9_000)


def test_a_limit_learnt_on_the_way_slows_the_next_requests() -> None:
    buckets = RateBuckets()
    for _ in range(500):
        buckets.take(10.0, 200.0)
    buckets.learn(RateHint(requests_per_minute=60))
    assert buckets.wait(10.0, 200.0) == 0.0
    buckets.take(10.0, 200.0)
    buckets.take(10.0, 200.0)
    assert buckets.wait(10.0, 200.0) == pytest.approx(1.0)


def test_nothing_goes_when_the_server_says_that_nothing_remains() -> None:
    buckets = RateBuckets()
    buckets.learn(RateHint(requests_per_minute=60, remaining_requests=0))
    assert buckets.wait(0.0, 1.0) == pytest.approx(1.0)
    tokens = RateBuckets()
    tokens.learn(RateHint(tokens_per_minute=6_000, remaining_tokens=0))
    assert tokens.wait(0.0, 50.0) == pytest.approx(0.5)
    unlimited = RateBuckets()
    unlimited.learn(RateHint(remaining_requests=0))
    assert unlimited.wait(0.0, 1.0) == 0.0


def test_shards_share_the_limits_of_the_account() -> None:
    buckets = RateBuckets(rpm=600, share=0.25)
    buckets.learn(RateHint(requests_per_minute=400, tokens_per_minute=8_000))
    assert (buckets.rpm, buckets.tpm) == (100, 2_000)
    with pytest.raises(ValueError, match="share"):
        RateBuckets(share=0)
    with pytest.raises(ValueError, match="rpm"):
        RateBuckets(rpm=-1)


# --- CircuitBreaker ---


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker(rng=random.Random(5))
    for _ in range(OPENS_AFTER):
        breaker.on_fault(0.0, "unavailable")
    return breaker


def test_the_breaker_opens_after_faults_in_a_row_and_not_when_answers_come_between() -> None:
    breaker = CircuitBreaker()
    for _ in range(20):
        for _ in range(OPENS_AFTER - 1):
            breaker.on_fault(0.0, "unavailable")
        breaker.on_success()
    assert not breaker.open
    for _ in range(OPENS_AFTER):
        assert breaker.wait(0.0) == 0.0
        breaker.on_fault(0.0, "unavailable")
    assert breaker.open


def test_faults_of_a_server_that_answers_do_not_open_the_breaker() -> None:
    breaker = CircuitBreaker()
    for kind in ("transient", "rate_limited", "refused") * 20:
        breaker.on_fault(0.0, kind)
    assert not breaker.open
    assert breaker.on_send() is False


def test_while_open_one_probe_at_a_time_goes_out() -> None:
    breaker = opened()
    now = breaker.wait(0.0)
    assert now <= 0.5
    assert breaker.wait(now) == 0.0
    assert breaker.on_send() is True
    assert breaker.wait(now) == math.inf
    breaker.on_fault(now + 1, "unavailable")  # of a request from before: not the probe
    assert breaker.wait(now + 1) == math.inf
    breaker.on_fault(now + 2, "unavailable", probe=True)
    assert breaker.wait(now + 2) < math.inf


def test_the_pauses_between_probes_grow_to_a_minute_with_full_jitter() -> None:
    rounds = []
    for seed in range(200):
        breaker = CircuitBreaker(rng=random.Random(seed))
        for _ in range(OPENS_AFTER):
            breaker.on_fault(0.0, "unavailable")
        now, pauses = 0.0, []
        for _ in range(12):
            pauses.append(breaker.wait(now))
            now += pauses[-1]
            breaker.on_send()
            breaker.on_fault(now, "unavailable", probe=True)
        rounds.append(pauses)
    for number in range(12):
        ceiling = min(60.0, 0.5 * 2**number)
        column = [pauses[number] for pauses in rounds]
        assert max(column) <= ceiling
        assert max(column) > 0.9 * ceiling
        assert min(column) < 0.1 * ceiling


def test_a_success_closes_the_breaker_whoever_brings_it() -> None:
    for probe in (True, False):
        breaker = opened()
        if probe:
            breaker.on_send()
        breaker.on_success()
        assert not breaker.open
        assert breaker.wait(0.0) == 0.0
        breaker.on_fault(1.0, "unavailable")
        assert not breaker.open


@pytest.mark.parametrize(("kind", "stays_open"), [("rate_limited", False), ("refused", False), ("transient", True)])
def test_a_probe_that_meets_a_working_server_closes_the_breaker(kind: str, stays_open: bool) -> None:
    breaker = opened()
    breaker.on_send()
    breaker.on_fault(1.0, kind, probe=True)
    assert breaker.open is stays_open


def test_a_server_that_is_down_for_ten_minutes_ends_the_run_after_few_probes() -> None:
    breaker = opened()
    now, probes = 0.0, 0
    while now < 2_000 and not breaker.expired(now):
        now += breaker.wait(now)
        probes += breaker.on_send()
        breaker.on_fault(now, "unavailable", probe=True)
    assert 600 <= now <= 660
    assert probes < 60


def test_a_server_that_comes_back_after_nine_minutes_is_found_within_a_minute() -> None:
    breaker = opened()
    now = 0.0
    while True:
        now += breaker.wait(now)
        breaker.on_send()
        if now >= 540:
            breaker.on_success()
            break
        breaker.on_fault(now, "unavailable", probe=True)
    assert now <= 600
    assert not breaker.expired(now)


@pytest.mark.parametrize("kind", ["transient", "rate_limited", "unavailable"])
def test_patience_ends_after_faults_of_any_kind_and_begins_anew_with_a_success(kind: str) -> None:
    breaker = CircuitBreaker(patience_s=100)
    assert not breaker.expired(1e9)  # nothing has failed: a long first answer is no reason to stop
    breaker.on_fault(1_000.0, kind)
    assert not breaker.expired(1_099.0)
    assert breaker.expired(1_100.0)
    breaker.on_success()
    assert not breaker.expired(1e9)
    breaker.on_fault(5_000.0, kind)
    assert not breaker.expired(5_099.0)
