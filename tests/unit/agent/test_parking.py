"""A thread is held, works meanwhile, and always gets out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from distdbg.agent.parking import Job, Parked, Parking
from distdbg.hooks.scene import EMPTY
from distdbg.schema.event import Paused
from distdbg.schema.stop import Stop

LONG_S = 10.0


class Guest:
    """A thread that parks."""

    def __init__(self, parking: Parking, hit: int) -> None:
        self.announced = threading.Event()
        self.parked: Parked | None = None
        self.error: BaseException | None = None
        self._parking, self._hit = parking, hit
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.parked = Parked(Stop(event=Paused(), hit=self._hit), EMPTY, [])
        try:
            self._parking.park(self.parked, self.announced.set)
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        self.thread.join(LONG_S)
        assert not self.thread.is_alive(), "it is still held"


Park = Callable[[int], Guest]


@pytest.fixture
def parking() -> Parking:
    return Parking()


@pytest.fixture
def park(parking: Parking) -> Iterator[Park]:
    guests: list[Guest] = []

    def start(hit: int) -> Guest:
        guests.append(Guest(parking, hit))
        return guests[-1]

    yield start
    parking.close()
    for guest in guests:
        guest.join()


def held(guest: Guest) -> Parked:
    assert guest.announced.wait(LONG_S)
    assert guest.parked is not None
    return guest.parked


def test_it_is_shown_while_it_is_held(parking: Parking, park: Park) -> None:
    guest = park(1)
    parked = held(guest)
    assert parking.current is parked
    assert parked.ident == guest.thread.ident
    assert parking.resume(1)
    guest.join()
    assert parking.current is None


def test_a_late_resume_does_not_let_another_stop_go(parking: Parking, park: Park) -> None:
    guest = park(2)
    held(guest)
    assert not parking.resume(1)
    assert guest.thread.is_alive() and parking.current is guest.parked
    assert parking.resume()
    guest.join()
    assert not parking.resume()


def test_jobs_run_on_the_held_thread_in_order(parking: Parking, park: Park) -> None:
    guest = park(1)
    ran: SimpleQueue[tuple[int, int]] = SimpleQueue()
    for number in range(3):
        held(guest).jobs.put(Job(lambda n=number: ran.put((n, threading.get_ident())), pytest.fail))
    assert [ran.get(timeout=LONG_S) for _ in range(3)] == [(n, guest.thread.ident) for n in range(3)]


def test_jobs_behind_the_resume_are_cancelled_on_the_held_thread(parking: Parking, park: Park) -> None:
    guest = park(1)
    seen: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(LONG_S)
        seen.append("ran")

    held(guest).jobs.put(Job(work, lambda: seen.append("cancelled the first")))
    started.wait(LONG_S)
    parking.resume(1)
    held(guest).jobs.put(Job(lambda: seen.append("ran the second"), lambda: seen.append("cancelled")))
    go_on.set()
    guest.join()
    assert seen == ["ran", "cancelled"]


def test_what_a_job_raises_leaves_with_the_thread_and_the_rest_is_cancelled(parking: Parking, park: Park) -> None:
    guest = park(1)
    seen: list[str] = []
    gate = threading.Event()

    def interrupt() -> None:
        gate.wait(LONG_S)
        raise KeyboardInterrupt

    held(guest).jobs.put(Job(interrupt, pytest.fail))
    held(guest).jobs.put(Job(lambda: seen.append("ran"), lambda: seen.append("cancelled")))
    gate.set()
    guest.join()
    assert isinstance(guest.error, KeyboardInterrupt)
    assert (seen, parking.current) == (["cancelled"], None)


def test_another_thread_waits_for_its_turn(parking: Parking, park: Park) -> None:
    first = park(1)
    held(first)
    second = park(2)
    assert not second.announced.wait(0.05)
    parking.resume(1)
    assert parking.current in (None, second.parked) or held(second)
    held(second)
    assert parking.current is second.parked


def test_closing_lets_everybody_go_also_those_in_line_and_those_to_come(parking: Parking, park: Park) -> None:
    first = park(1)
    held(first)
    second = park(2)
    parking.close()
    first.join()
    second.join()
    third = park(3)
    third.join()
    assert not second.announced.is_set() and not third.announced.is_set()


def test_it_holds_again_when_it_is_opened_again(parking: Parking, park: Park) -> None:
    parking.close()
    parking.open()
    assert held(park(1)) is parking.current


def test_the_frames_are_dropped_when_it_goes_on(parking: Parking) -> None:
    import sys

    parked = Parked(Stop(event=Paused()), EMPTY, [sys._getframe()])
    parked.jobs.put(None)
    parking.park(parked, lambda: None)
    assert parked.frames == []


def test_a_failing_announcement_does_not_block_the_parking(parking: Parking, park: Park) -> None:
    def fail() -> None:
        raise OSError("no wire")

    with pytest.raises(OSError, match="no wire"):
        parking.park(Parked(Stop(event=Paused()), EMPTY, []), fail)
    assert parking.current is None
    held(park(1))
