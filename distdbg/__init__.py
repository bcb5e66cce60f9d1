"""distdbg: one debugging console over all ranks of a live torch.distributed job."""

__version__ = "0.1.0"
