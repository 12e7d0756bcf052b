"""The only file that registers hooks: change a module's output, or record it, and undo both whatever happens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

Change = Callable[[Tensor, Tensor], Tensor]
"""Takes a module's input `[B, T, D_in]` and output `[B, T, D]`, gives the new output `[B, T, D]`."""


@contextmanager
def changed(changes: Sequence[tuple[nn.Module, Change]]) -> Iterator[None]:
    """Within the context every listed module's output is replaced by `change(input, output)`.

    Changes of the same module apply in the order given. All hooks are removed on the way out, also when
    registering one of them fails half-way.
    """
    with ExitStack() as undo:
        for module, change in changes:
            undo.callback(module.register_forward_hook(_replacing(change), with_kwargs=True).remove)
        yield


@contextmanager
def recorded(modules: Sequence[nn.Module]) -> Iterator[list[Tensor | None]]:
    """Within the context the list holds each module's last output `[B, T, D]`, detached, None before it ran."""
    seen: list[Tensor | None] = [None] * len(modules)

    def keep(index: int) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            seen[index] = _tensor(output).detach()

        return hook

    with ExitStack() as undo:
        for index, module in enumerate(modules):
            undo.callback(module.register_forward_hook(keep(index)).remove)
        yield seen


def _tensor(output: object) -> Tensor:
    first = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(first, Tensor):
        raise TypeError(f"module output of type {type(output).__name__}: a tensor, or a tuple that starts with one, is needed")
    return first


def _replacing(change: Change) -> Callable[..., object]:
    def hook(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> object:
        inputs = args[0] if args else next(iter(kwargs.values()))
        before = _tensor(output)
        after = change(inputs if isinstance(inputs, Tensor) else before, before)
        if after.shape != before.shape:
            raise ValueError(f"changed output of shape {tuple(after.shape)}: the module gives {tuple(before.shape)}")
        return (after, *output[1:]) if isinstance(output, (tuple, list)) else after

    return hook


def hook_count(net: nn.Module) -> int:
    """Number of forward hooks registered anywhere in `net` (zero when nothing leaked)."""
    return sum(len(module._forward_hooks) for module in net.modules())


def mask_in(new: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """`new` where `mask` holds, `old` elsewhere; `mask` is `[B, T]`, the others `[B, T, D]`."""
    return new if bool(mask.all()) else torch.where(mask.unsqueeze(-1), new, old)
