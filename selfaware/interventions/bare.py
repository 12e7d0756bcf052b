"""A safetensors file of bare vectors → the one that is meant for a site. Knows names and shapes, no model."""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from selfaware.errors import BadData, BadFile, UnknownName
from selfaware.types import Site

BLOCK = re.compile(r"(?:^|[^a-z])(?:layers?|blocks?|h)[._-]?(\d+)", re.I)
"""A block's number where a tensor's name says that it is one: `layer_15`, `blocks.15.mlp`, `transformer.h.3`."""


def vector(path: Path, site: str) -> tuple[str, Tensor]:
    """Name and values, `[D]` in float32, of the file's vector for that site."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        name = _picked(path, shapes, site)
        tensor = file.get_tensor(name)
    shape = shapes[name]
    if not tensor.is_floating_point() or len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1) or 0 in shape:
        raise BadFile(
            f"{path}: tensor {name} is {shape} of {str(tensor.dtype).removeprefix('torch.')}; one vector (D,) or (1, D) of "
            "floating-point numbers is needed. Save each block's vector under the block's number."
        )
    tensor = tensor.flatten().float()
    finite(path, name, tensor)
    if not tensor.any():
        raise BadFile(
            f"{path}: tensor {name} {shape} is all zero; a vector that adds something is needed. Save it again."
        )
    return name, tensor


def finite(path: Path, name: str, tensor: Tensor) -> None:
    """Nothing, where all values are finite.

    Raises:
        BadFile: some are not.
    """
    bad = int((~tensor.isfinite()).sum())
    if bad:
        raise BadFile(
            f"{path}: {bad} values of tensor {name} {tuple(tensor.shape)} are not finite; all must be. Make it again."
        )


def _picked(path: Path, shapes: Mapping[str, tuple[int, ...]], site: str) -> str:
    """The tensor that is meant. A site never falls back on a neighbouring block's vector."""
    listed = ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items(), key=_by_block)[:48])
    if not shapes or any("lora_" in name for name in shapes):
        raise BadFile(
            f"{path}: got {listed or 'no tensor'}; vectors are needed. Give an adapter as the folder that PEFT saved."
        )
    if len(shapes) == 1:
        return _single(path, next(iter(shapes)), site)
    if not site:
        raise UnknownName(
            f"{path}: got no site for {len(shapes)} vectors; one is picked by its block. Give a site, such as 15 or 15.mlp: "
            f"there are {listed}."
        )
    wanted = Site.parse(site)
    if str(wanted) in shapes:
        return str(wanted)
    # A name such as 15.attn is a site of its own: it is not the vector of 15 or of 15.mlp.
    named = [n for n in shapes if _block(n) == wanted.block and not re.fullmatch(r"\d+\.\D.*", n)]
    if len(named) != 1:
        got = f"{len(named)} vectors" if named else "no vector"
        raise UnknownName(
            f"{path}: got {got} for site {wanted}; exactly one of that block is needed. Give another site, or name the "
            f"tensor {wanted} in the file: there are {listed}."
        )
    return named[0]


def _single(path: Path, name: str, site: str) -> str:
    """The only tensor; its name need say nothing, but must not say another block."""
    if not site:
        raise BadData(
            f"{path}: got a bare vector, {name}, without a site; where it is added is never guessed. "
            "Give a block's output, such as site='15', or a part, such as site='15.mlp'."
        )
    said = BLOCK.findall(name)
    if len(said) == 1 and int(said[0]) != Site.parse(site).block:
        raise BadData(
            f"{path}: tensor {name} is named for block {said[0]}; site {site} is another. "
            "Correct the site, or rename the tensor where its author counts otherwise."
        )
    return name


def _block(name: str) -> int | None:
    """The one block number in a tensor's name, None where there is none or more than one."""
    numbers = {int(n) for n in BLOCK.findall(name) or re.findall(r"\d+", name)}
    return numbers.pop() if len(numbers) == 1 else None


def _by_block(item: tuple[str, object]) -> tuple[int, str]:
    block = _block(item[0])
    return (-1 if block is None else block, item[0])
