"""Llama of Hugging Face from a random tiny configuration, tensor parallel by its own plan (tp_plan="auto").

Trained twice from the same start, `alone` and `debugged`, in one process: transformers takes long to import.
STEPS=n   STEP_SLEEP=s (in the second)   LOSSES=path
"""

import gc
import os
import time

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.distributed import DistributedConfig

CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32,
)  # fmt: skip


def train(name: str) -> None:
    """Train on random tokens."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    # What from_pretrained(…, distributed_config=) does around loading a checkpoint, of which there is none.
    plan = DistributedConfig(tp_plan="auto", tp_size=dist.get_world_size())
    plan, _, mesh = LlamaForCausalLM.prepare_distribute_model(plan)
    model = LlamaForCausalLM.maybe_distribute_model(LlamaForCausalLM(CONFIG), plan, mesh)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = open(f"{os.environ['LOSSES']}.{name}.{rank}", "w")  # noqa: SIM115
    for step in range(int(os.environ["STEPS"])):
        torch.manual_seed(step)
        ids = torch.randint(0, CONFIG.vocab_size, (2, 16))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(loss.item().hex(), file=losses, flush=True)
        if rank == 0:
            print(f"{name} step {step} loss {loss.item():.6f}", flush=True)
        if name == "debugged":
            time.sleep(float(os.environ["STEP_SLEEP"]))


def main() -> None:
    """Train twice."""
    dist.init_process_group("gloo")
    train("alone")
    gc.collect()
    train("debugged")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
