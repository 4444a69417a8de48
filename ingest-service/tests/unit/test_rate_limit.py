import asyncio
import random
from collections.abc import Callable

import pytest
from ingest_service.rate_limit import PausedError, RateLimiter, RefusalShare


class Time:
    """A clock that only the test moves; sleepers wake in the order of their times."""

    def __init__(self, lateness: Callable[[], float] = lambda: 0.0) -> None:
        self.now = 1000.0
        self._lateness = lateness
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds + self._lateness(), len(self._sleepers), woken))
        await woken.wait()

    async def pass_until(self, done: Callable[[], bool]) -> None:
        """Lets time pass from one sleeper to the next until `done`."""
        for _ in range(100_000):
            for _ in range(20):
                await asyncio.sleep(0)
            if done():
                return
            self._sleepers.sort()
            at, _, woken = self._sleepers.pop(0)
            self.now = max(self.now, at)
            woken.set()
        pytest.fail("not done after 100,000 steps")


def most_in_any_second(times: list[float]) -> int:
    return max(sum(1 for other in times if start <= other < start + 1.0) for start in times)


@pytest.mark.parametrize("rate", [1, 3, 38, 40, 0.5])
@pytest.mark.parametrize("late", [0.0, 0.05, 0.6])
async def test_no_window_of_one_second_holds_more_than_the_rate(rate: float, late: float) -> None:
    dice = random.Random(7)
    time = Time(lambda: dice.uniform(0, late))
    limiter = RateLimiter(rate, clock=time.clock, sleep=time.sleep)
    times: list[float] = []

    async def ask() -> None:
        (await limiter.acquire()).answered()
        times.append(time.now)

    for _ in range(3):
        asked = [asyncio.create_task(ask()) for _ in range(70)]
        await time.pass_until(lambda asked=asked: all(task.done() for task in asked))
        time.now += dice.uniform(0, 1.5)  # a rest must not save up for a burst
    assert len(times) == 210
    assert most_in_any_second(times) <= max(1, rate)


async def test_without_a_queue_nobody_waits() -> None:
    time = Time()
    limiter = RateLimiter(38, clock=time.clock, sleep=time.sleep)
    await asyncio.wait_for(limiter.acquire(), 30)
    time.now += 1 / 38 + 2e-6
    await asyncio.wait_for(limiter.acquire(), 30)


@pytest.mark.parametrize(("late", "most"), [(0.0, 10.11), (0.02, 10.3)])
async def test_the_rate_is_used_up_also_by_a_busy_process(late: float, most: float) -> None:
    dice = random.Random(7)
    time = Time(lambda: dice.uniform(0, late))
    limiter = RateLimiter(40, clock=time.clock, sleep=time.sleep)
    began = time.now

    async def ask() -> None:
        (await limiter.acquire()).answered()

    asked = [asyncio.create_task(ask()) for _ in range(401)]
    await time.pass_until(lambda: all(task.done() for task in asked))
    assert 10.0 - 1e-6 <= time.now - began <= most


@pytest.mark.parametrize(
    ("usual", "stall", "most"),
    [
        (0.0, 0.0, 10.3),
        (0.2, 0.0, 10.6),  # a long way to the server costs nothing
        (0.05, 0.25, 13.0),  # delays that differ do
    ],
)
async def test_no_second_of_the_server_holds_more_than_the_rate_however_requests_are_delayed(
    usual: float, stall: float, most: float
) -> None:
    dice = random.Random(7)
    time = Time(lambda: dice.uniform(0, 0.01))
    limiter = RateLimiter(40, clock=time.clock, sleep=time.sleep)
    arrivals: list[float] = []
    began = time.now

    async def ask() -> None:
        grant = await limiter.acquire()
        await time.sleep(usual / 2)
        if stall and time.now % 1 < stall:  # the server takes nothing in, then all at once
            await time.sleep(stall - time.now % 1)
        arrivals.append(time.now)
        await time.sleep(usual / 2)
        grant.answered()

    asked = [asyncio.create_task(ask()) for _ in range(401)]
    await time.pass_until(lambda: all(task.done() for task in asked))
    assert len(arrivals) == 401
    assert most_in_any_second(arrivals) <= 40
    assert max(arrivals) - began <= most


async def test_a_request_that_is_never_answered_counts_for_little_longer() -> None:
    time = Time()
    limiter = RateLimiter(1, clock=time.clock, sleep=time.sleep)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await time.pass_until(waiting.done)
    assert time.now == pytest.approx(1001.5, abs=0.06)


async def test_grants_come_in_the_order_of_asking_and_a_cancelled_waiter_takes_none() -> None:
    time = Time()
    limiter = RateLimiter(2, clock=time.clock, sleep=time.sleep)
    granted: list[tuple[int, float]] = []

    async def ask(number: int) -> None:
        (await limiter.acquire()).answered()
        granted.append((number, round(time.now - 1000.0, 3)))

    asked = [asyncio.create_task(ask(number)) for number in range(6)]
    for _ in range(10):
        await asyncio.sleep(0)
    asked[1].cancel()  # it is the one that sleeps
    asked[3].cancel()  # it waits for its turn
    await time.pass_until(lambda: all(task.done() for task in asked))
    assert granted == [(0, 0.0), (2, 0.5), (4, 1.01), (5, 1.51)]


async def test_a_pause_holds_back_those_who_wait_already() -> None:
    time = Time()
    limiter = RateLimiter(10, clock=time.clock, sleep=time.sleep)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.pause(5)
    limiter.pause(1)  # does not end the longer one
    assert limiter.paused_for() == 5
    await time.pass_until(waiting.done)
    assert time.now == pytest.approx(1005.0)


async def test_a_pause_beyond_the_patience_is_told_also_to_those_who_wait_already() -> None:
    time = Time()
    limiter = RateLimiter(10, patience=30, clock=time.clock, sleep=time.sleep)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    limiter.pause(3600)
    await time.pass_until(lambda: all(task.done() for task in waiting))
    for task in waiting:
        with pytest.raises(PausedError, match=r"3599\.9"):
            await task
    time.now += 3600
    await limiter.acquire()


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(rate)


class _Answers:
    """Answers to a steady 40 requests a second, and what a `RefusalShare` makes of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.refusals = RefusalShare(clock=lambda: self.now)
        self.pauses = 0

    def give(self, count: int, *, refused: Callable[[int], bool]) -> None:
        for number in range(count):
            self.now += 1 / 40
            if not refused(number):
                self.refusals.answered()
            elif self.refusals.refused(sent_at=self.now - 0.01):
                self.pauses += 1


def test_scattered_refusals_concern_single_requests() -> None:
    dice = random.Random(7)
    answers = _Answers()
    answers.give(80, refused=lambda _: False)
    answers.give(4000, refused=lambda _: dice.random() < 0.05)
    assert answers.pauses == 0


def test_a_limit_that_is_broken_concerns_everybody_within_a_second() -> None:
    answers = _Answers()
    answers.give(80, refused=lambda _: False)
    answers.give(20, refused=lambda number: number % 2 == 0)
    assert answers.pauses == 0
    answers.give(20, refused=lambda number: number % 2 == 0)
    assert answers.pauses > 0


def test_a_refusal_without_anything_answered_concerns_everybody() -> None:
    answers = _Answers()
    answers.give(1, refused=lambda _: True)
    assert answers.pauses == 1
    answers.give(80, refused=lambda _: False)
    answers.now += 3  # what was answered long ago says nothing about now
    answers.give(1, refused=lambda _: True)
    assert answers.pauses == 2


def test_requests_on_their_way_do_not_prolong_the_pause_that_others_began() -> None:
    answers = _Answers()
    answers.give(1, refused=lambda _: True)
    assert not answers.refusals.refused(sent_at=answers.now - 0.01)
    answers.now += 1
    assert answers.refusals.refused(sent_at=answers.now)
