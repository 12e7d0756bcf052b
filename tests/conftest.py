"""Shapes in annotations are checked while the tests run; nothing is seeded here: every draw takes its own generator.

One thread: the nets are so small that a second one only waits (on a busy machine seven times as long in all).
"""

import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)

CHECKED = [
    "interventions",
    "ask",
    "metrics",
    "stats",
    "types",
    "readouts.dose",
    *(
        f"models.{m}"
        for m in (
            "hf",
            "head",
            "prefix",
            "render",
            "fake",
            "batch",
            "sites",
            "sample",
            "fluency",
            "activations",
            "resume",
        )
    ),
]
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int will do for a float, as for mypy
)
_hook = install_import_hook([f"selfaware.{name}" for name in CHECKED], CHECKER)
