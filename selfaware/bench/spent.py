"""What a stage's time goes to, by the profiler: products, attention, element-wise, head, copies, Python. Knows operator names."""

import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch.profiler import ProfilerActivity, profile

PRODUCTS, ATTENTION, ELEMENTS = "products", "attention", "element-wise"
HEAD, COPIES, PYTHON = "head", "copies", "Python"
KINDS = (PRODUCTS, ATTENTION, ELEMENTS, HEAD, COPIES, PYTHON)

IS_ATTENTION = re.compile(r"attention|sdp|::bmm|::baddbmm|softmax", re.I)
IS_PRODUCT = re.compile(r"::(mm|addmm|linear|matmul|mv|addmv)|mkldnn_linear|gemm", re.I)
IS_HEAD = re.compile(r"log_softmax|nll_loss|cross_entropy|logsumexp", re.I)
IS_NONE = re.compile(r"^autograd::|Backward\d*$|^Optimizer|^Profiler")
"""What wraps operators and does nothing itself: its own time is spent between them."""
IS_COPY = re.compile(
    r"::(_to_copy|to|copy_|clone|contiguous|cat|stack|index|index_select|index_put_?|_index_put_impl_|gather|scatter\w*|"
    r"masked_\w+|fill_|zero_|zeros\w*|new_\w+|empty\w*|full\w*|constant_pad_nd|pad|slice_backward|select_backward|repeat\w*|"
    r"embedding\w*|arange|nonzero)$"
)


@final
class Profile:
    """What the profiler saw between its start and its end."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.events: list[tuple[str, list[Any], float]] = []

    def shares(self, words: Collection[int]) -> Mapping[str, float]:
        """Share of the time by kind; they sum to 1.

        Args:
            words: sizes of the vocabulary, whole and in pieces; an operator one of whose inputs has such an axis belongs
                to the head.
        """
        spent = dict.fromkeys(KINDS, 0.0)
        for name, shapes, seconds in self.events:
            spent[kind(name, shapes, words)] += seconds
        total = max(self.seconds, sum(spent.values()))
        spent[PYTHON] += total - sum(spent.values())
        return {k: v / total for k, v in spent.items()}


def kind(name: str, shapes: list[Any], words: Collection[int]) -> str:
    """What an operator's own time is counted as."""
    sizes = {n for shape in shapes if isinstance(shape, list | tuple) for n in shape if isinstance(n, int)}
    if IS_NONE.search(name):
        return PYTHON
    if IS_HEAD.search(name) or (sizes & set(words) and "embedding" not in name):
        return HEAD
    if IS_ATTENTION.search(name):
        return ATTENTION
    if IS_PRODUCT.search(name):
        return PRODUCTS
    return COPIES if IS_COPY.search(name) else ELEMENTS


@contextmanager
def profiled(into: Profile) -> Iterator[None]:
    """Within the context operators are timed; afterwards `into` holds them, backward passes included."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as watched:
        began = time.perf_counter()
        yield
        into.seconds = time.perf_counter() - began
    for event in watched.key_averages(group_by_input_shape=True):
        into.events.append((event.key, list(event.input_shapes or []), event.self_cpu_time_total / 1e6))
