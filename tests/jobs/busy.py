"""A torch loop amid threads that load libraries, allocate, parse and collect: a bad place to be stopped in.

Says `ready`, and `finished` after a line came in.
"""

import contextlib
import ctypes
import gc
import json
import mmap
import select
import sys
import threading

import torch

stopping = threading.Event()


def load_libraries() -> None:
    import _ctypes

    while not stopping.is_set():
        for name in ("libm.so.6", "librt.so.1", "libutil.so.1", "libanl.so.1", "libthread_db.so.1"):
            with contextlib.suppress(OSError):
                _ctypes.dlclose(ctypes.CDLL(name)._handle)


def allocate() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    while not stopping.is_set():
        blocks = [libc.malloc(size) for size in range(16, 200_000, 997)]
        for block in blocks:
            libc.free(block)
        mmap.mmap(-1, 1 << 20).close()


def parse() -> None:
    text = json.dumps([{"a": list(range(50)), "b": "x" * 100}] * 20)
    while not stopping.is_set():
        json.loads(text)
        cycle: list[object] = []
        cycle.append(cycle)
        gc.collect(0)


threads = [threading.Thread(target=target) for target in (load_libraries, allocate, parse)]
for thread in threads:
    thread.start()
weights = torch.rand(64, 64)
batch = torch.rand(8, 64)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    batch = torch.nn.functional.normalize(batch @ weights)
stopping.set()
for thread in threads:
    thread.join()
assert torch.isfinite(batch).all()
print("finished", flush=True)
