"""A torch loop amid threads that load libraries, allocate, parse and collect: a bad place to be stopped in.

With `alone` on the command line one thread does it all, so that there is no sleeping thread to choose.
Says `ready`, and `finished` after a line came in.
"""

import _ctypes
import contextlib
import ctypes
import gc
import json
import mmap
import select
import sys
import threading
from collections.abc import Callable

import torch

LIBRARIES = ("libm.so.6", "librt.so.1", "libutil.so.1", "libanl.so.1", "libthread_db.so.1")
TEXT = json.dumps([{"a": list(range(50)), "b": "x" * 100}] * 20)

stopping = threading.Event()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
weights = torch.rand(64, 64)
batch = torch.rand(8, 64)


def load_libraries() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            _ctypes.dlclose(ctypes.CDLL(name)._handle)


def allocate() -> None:
    blocks = [libc.malloc(size) for size in range(16, 200_000, 997)]
    for block in blocks:
        libc.free(block)
    mmap.mmap(-1, 1 << 20).close()


def parse() -> None:
    json.loads(TEXT)
    cycle: list[object] = []
    cycle.append(cycle)
    gc.collect(0)


def compute() -> None:
    global batch
    batch = torch.nn.functional.normalize(batch @ weights)


def repeat(work: Callable[[], None]) -> None:
    while not stopping.is_set():
        work()


helpers = (load_libraries, allocate, parse)
is_alone = "alone" in sys.argv
threads = [] if is_alone else [threading.Thread(target=repeat, args=(work,)) for work in helpers]
for thread in threads:
    thread.start()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    compute()
    if is_alone:
        for work in helpers:
            work()
stopping.set()
for thread in threads:
    thread.join()
assert torch.isfinite(batch).all()
print("finished", flush=True)
