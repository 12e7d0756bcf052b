"""The only file that registers hooks: change an output, record it, stop or resume a pass at a block; all undone whatever happens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

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
        raise TypeError(
            f"module output of type {type(output).__name__}: a tensor, or a tuple that starts with one, is needed"
        )
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


class _Reached(Exception):
    """Carries a block's input out of a forward pass that need not go on."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def input_of(block: nn.Module, run: Callable[[], object]) -> Tensor:
    """What enters `block` when `run` makes a forward pass, `[B, T, D]`, with its gradient; the pass ends there."""

    def stop(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        raise _Reached(_tensor(args[0] if args else next(iter(kwargs.values()))))

    handle = block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        run()
    except _Reached as reached:
        return reached.value
    finally:
        handle.remove()
    raise RuntimeError(f"{type(block).__name__}: the forward pass did not reach it")


@contextmanager
def resumed(blocks: Sequence[nn.Module], at: int, residual: Tensor) -> Iterator[None]:
    """Within the context a forward pass skips the blocks below `at` and block `at` is given `residual` `[B, T, D]`.

    Everything around the blocks (masks, positions, caches of the blocks that run) stays the model's own.
    """

    def passing(hidden_states: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        return hidden_states

    with ExitStack() as undo:
        for block in blocks[:at]:
            block.forward = passing
            undo.callback(block.__delattr__, "forward")
        undo.callback(blocks[at].register_forward_pre_hook(_entering(lambda _: residual), with_kwargs=True).remove)
        yield


@contextmanager
def gathered(head: nn.Module, mask: Tensor) -> Iterator[None]:
    """Within the context `head` sees the positions of `mask` `[B, T]` only, as one contiguous row `[1, N, D]`.

    Slices of `[B, T, D]` are not contiguous, and in bfloat16 on a CPU the head then copies its weights for each row.
    """
    handle = head.register_forward_pre_hook(_entering(lambda x: x[mask].unsqueeze(0)), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _entering(change: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: change(kwargs[name])}

    return hook


def hook_count(net: nn.Module) -> int:
    """Number of hooks and replaced forwards anywhere in `net` (zero when nothing leaked)."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in vars(m)) for m in net.modules())


def mask_in(new: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """`new` where `mask` holds, `old` elsewhere; `mask` is `[B, T]`, the others `[B, T, D]`.

    Raises:
        ValueError: the shapes differ; broadcasting would hide it.
    """
    if new.shape != old.shape or mask.shape != old.shape[:2]:
        raise ValueError(
            f"changed output of shape {tuple(new.shape)} under a mask {tuple(mask.shape)}: the module gives {tuple(old.shape)}"
        )
    return new if bool(mask.all()) else torch.where(mask.unsqueeze(-1), new, old)
