"""What can be read on request in a rank. Importing this room registers every probe; `run_probe` answers a request.

Nothing here issues a collective, keeps a tensor beyond its answer or raises anything but `distdbg.errors`.
"""

from distdbg.probes import locals as _locals
from distdbg.probes import meshes as _meshes
from distdbg.probes import modules as _modules
from distdbg.probes import names as _names
from distdbg.probes import tensors as _tensors
from distdbg.probes import values as _values
from distdbg.probes.context import Context
from distdbg.probes.model import ModelIndex
from distdbg.probes.registry import PROBES, Probe, run_probe

__all__ = ["PROBES", "Context", "ModelIndex", "Probe", "run_probe"]

_FILES = (_locals, _meshes, _modules, _names, _tensors, _values)
