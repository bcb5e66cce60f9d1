"""A job that may call distdbg itself: LISTEN=before|after init_process_group, BREAK=N at iteration N.

Ends by itself when the file END is there: a killed rank could not tidy up after itself.
"""

import os
import time

import torch
import torch.distributed as dist

import distdbg


def main() -> None:
    """Count until told to end."""
    listen, stop_at, end = os.environ.get("LISTEN"), int(os.environ.get("BREAK", "-1")), os.environ["END"]
    if listen == "before":
        distdbg.listen()
    dist.init_process_group("gloo")
    if listen == "after":
        distdbg.listen()
    print("listening", flush=True)
    has_ended = torch.zeros(1)
    step = 0
    while not has_ended:
        if step == stop_at:
            distdbg.breakpoint()
        has_ended += os.path.exists(end)
        dist.all_reduce(has_ended)
        if dist.get_rank() == 0:
            print(f"step {step}", flush=True)
        time.sleep(0.02)
        step += 1
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
