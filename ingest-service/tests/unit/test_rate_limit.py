import asyncio
import random
from collections.abc import Callable

import pytest
from ingest_service.rate_limit import PausedError, RateLimiter


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
            for _ in range(5):
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
        await limiter.acquire()
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
    await asyncio.wait_for(limiter.acquire(), 1)
    time.now += 1 / 38 + 2e-6
    await asyncio.wait_for(limiter.acquire(), 1)


async def test_the_rate_is_used_up() -> None:
    time = Time()
    limiter = RateLimiter(38, clock=time.clock, sleep=time.sleep)
    began = time.now
    asked = [asyncio.create_task(limiter.acquire()) for _ in range(381)]
    await time.pass_until(lambda: all(task.done() for task in asked))
    assert time.now - began == pytest.approx(10.0, abs=1e-3)


async def test_grants_come_in_the_order_of_asking_and_a_cancelled_waiter_takes_none() -> None:
    time = Time()
    limiter = RateLimiter(2, clock=time.clock, sleep=time.sleep)
    granted: list[tuple[int, float]] = []

    async def ask(number: int) -> None:
        await limiter.acquire()
        granted.append((number, round(time.now - 1000.0, 3)))

    asked = [asyncio.create_task(ask(number)) for number in range(6)]
    for _ in range(10):
        await asyncio.sleep(0)
    asked[1].cancel()  # it is the one that sleeps
    asked[3].cancel()  # it waits for its turn
    await time.pass_until(lambda: all(task.done() for task in asked))
    assert granted == [(0, 0.0), (2, 0.5), (4, 1.0), (5, 1.5)]


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
