"""The line before the network: images of many requests together, each answer to the one who asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from serving.line import BATCH, Line
from serving.problems import Problem

PATIENCE = 20.0


class Network:
    """Doubles numbers, remembers what it was given, and can be held back."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.maps: list[int] = []
        self.threads: set[int] = set()
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def score(self, images: Sequence[int], names: Sequence[str]) -> list[str]:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        if -1 in images:
            raise MemoryError
        return [f"{name}:{2 * image}" for image, name in zip(images, names, strict=True)]

    def draw(self, images: Sequence[int]) -> list[int]:
        self.maps.append(len(images))
        self.threads.add(threading.get_ident())
        if -1 in images:
            raise MemoryError
        return [image + 100 for image in images]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def line(network: Network) -> Iterator[Line[int, str, int]]:
    made: Line[int, str, int] = Line(network.score, network.draw, most=100)
    yield made
    network.go.set()
    made.close()


def test_requests_that_come_together_are_scored_together_and_get_their_own(
    network: Network, line: Line[int, str, int]
) -> None:
    network.go.clear()
    first = line.answers([0], ["first"])
    assert network.begun.wait(PATIENCE)  # the first one is being scored while the others come
    others = [line.answers([at, at + 1], [f"a{at}", f"b{at}"]) for at in range(1, 21)]
    network.go.set()
    assert first.result(PATIENCE) == ["first:0"]
    for at, future in enumerate(others, start=1):
        assert future.result(PATIENCE) == [f"a{at}:{2 * at}", f"b{at}:{2 * at + 2}"]
    assert network.batches == [1, 40]


def test_a_batch_holds_whole_requests_and_no_more_than_fit(network: Network, line: Line[int, str, int]) -> None:
    network.go.clear()
    first = line.answers([0], ["x"])
    assert network.begun.wait(PATIENCE)
    asked = [line.answers(list(range(count)), ["n"] * count) for count in (40, 30, 20, 90)]
    network.go.set()
    for future in (first, *asked):
        future.result(PATIENCE)
    assert network.batches == [1, 40, 50, 90]
    assert max(40, 50) <= BATCH < 40 + 30


def test_many_threads_get_what_they_asked_for(network: Network, line: Line[int, str, int]) -> None:
    def ask(number: int) -> list[str]:
        return line.answers([number], [str(number)]).result(PATIENCE)

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, range(400)))
    assert found == [[f"{number}:{2 * number}"] for number in range(400)]
    assert len(network.threads) == 1
    assert sum(network.batches) == 400


def test_a_failure_reaches_those_who_asked_and_the_line_goes_on(line: Line[int, str, int]) -> None:
    with pytest.raises(MemoryError):
        line.answers([-1], ["bad"]).result(PATIENCE)
    with pytest.raises(MemoryError):
        line.maps([-1]).result(PATIENCE)
    assert line.answers([4], ["good"]).result(PATIENCE) == ["good:8"]
    assert line.maps([4]).result(PATIENCE) == [104]


def test_what_nobody_waits_for_is_not_computed(network: Network, line: Line[int, str, int]) -> None:
    network.go.clear()
    first = line.answers([0], ["x"])
    assert network.begun.wait(PATIENCE)
    gone, map_gone = line.answers([1] * 30, ["gone"] * 30), line.maps([1] * 9)
    kept = line.answers([2], ["kept"])
    assert gone.cancel()
    assert map_gone.cancel()
    network.go.set()
    assert first.result(PATIENCE) == ["x:0"]
    assert kept.result(PATIENCE) == ["kept:4"]
    with pytest.raises(CancelledError):
        gone.result(0)
    assert line.maps([5]).result(PATIENCE) == [105]
    assert network.batches == [1, 1]
    assert network.maps == [1]


def test_many_maps_are_drawn_a_few_at_a_time_so_that_scores_need_not_wait(
    network: Network, line: Line[int, str, int]
) -> None:
    assert line.maps(list(range(20))).result(PATIENCE) == list(range(100, 120))
    assert network.maps == [8, 8, 4]


def test_a_full_line_refuses_and_says_when_to_come_again(line: Line[int, str, int]) -> None:
    line.reserve(60)
    with pytest.raises(Problem) as caught:
        line.reserve(41)
    assert (caught.value.status, caught.value.limit, caught.value.value) == (503, 100, 101)
    assert caught.value.headers["Retry-After"] == "3"
    line.reserve(40)
    line.release(100)
    line.reserve(1_000)  # a request that is larger than the line is answered when it is alone
    line.release(1_000)
    assert line.reserved == 0


def test_the_end_finishes_what_waits_and_takes_no_more(network: Network) -> None:
    line: Line[int, str, int] = Line(network.score, network.draw)
    network.go.clear()
    waiting = [line.answers([at], ["w"]) for at in range(3)]
    closing = threading.Thread(target=line.close)
    closing.start()
    network.go.set()
    assert [future.result(PATIENCE) for future in waiting] == [["w:0"], ["w:2"], ["w:4"]]
    closing.join(PATIENCE)
    assert not closing.is_alive()
    with pytest.raises(Problem, match="shutting down"):
        line.answers([1], ["late"])
