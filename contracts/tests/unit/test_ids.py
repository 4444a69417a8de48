"""Event ids are UUIDs of version 7: of their time, and never the same twice."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

from moviemetric_contracts.ids import new_id


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id()
    after = time.time_ns() // 1_000_000
    made = UUID(text)
    assert (str(made), made.version, made.variant) == (text, 7, RFC_4122)
    assert before <= made.int >> 80 <= after


def many(count: int) -> list[str]:
    return [new_id() for _ in range(count)]


def test_ids_of_many_threads_all_differ() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(many, [5_000] * 8))
    assert len({text for texts in made for text in texts}) == 40_000


def test_the_random_bits_are_all_used() -> None:
    numbers = [UUID(new_id()).int for _ in range(200)]
    varying = 0
    for number in numbers:
        varying |= number ^ numbers[0]
    random_bits = 0xFFF << 64 | (1 << 62) - 1
    assert varying & random_bits == random_bits


def test_a_forked_process_does_not_go_on_with_its_parents_random_bytes() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reading) as pipe:
        of_child = pipe.read()
    assert UUID(of_child).int & (1 << 62) - 1 != UUID(new_id()).int & (1 << 62) - 1
