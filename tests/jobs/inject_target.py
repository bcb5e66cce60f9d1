"""A process to inject code into: says `ready`, then does for ever what its argument says.

Any standard interpreter runs it: no torch. A line on standard input makes `counting` say how many signals it saw.
"""

import ctypes
import os
import select
import signal
import sys
import time


def sleeping() -> None:
    while True:
        time.sleep(3600)


def spinning() -> None:
    while True:
        pass


def polling() -> None:
    poll = select.poll()
    poll.register(os.pipe()[0], select.POLLIN)
    poll.poll()


def reading() -> None:
    os.read(os.pipe()[0], 1)


def computing() -> None:
    """Ends loudly when a register was not restored."""
    while True:
        number = total = 0
        share = 0.0
        while number < 1000:
            number += 1
            total += number
            share += 0.5
        words = {str(number): [number] * 3 for number in range(100)}
        if total != 500500 or share != 500.0 or len(words) != 100:
            raise SystemExit("a computation went wrong")


def deadlocked() -> None:
    """Wait for a mutex that this very thread holds."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def counting() -> None:
    """Count a signal that, unlike others, is not merged with one that still waits.

    Python merges calls of a handler, but writes each signal to this descriptor.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGRTMIN, lambda number, frame: None)
    print("counting", flush=True)
    for _line in sys.stdin:
        print("seen", len(os.read(reader, 1 << 16)), flush=True)


WORKS = (sleeping, spinning, polling, reading, computing, deadlocked, counting)
print("ready", flush=True)
{work.__name__: work for work in WORKS}[sys.argv[1]]()
