"""Somebody else's adapter or vector as a recipe, checked and never fitted. Knows files of weights, no experiment."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selfaware.errors import BadData, BadFile, BadModel, UnknownName
from selfaware.interventions import peft_io
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank, Recipe, Step, added
from selfaware.models.hf import Model
from selfaware.store import DONE, Cell, checksum
from selfaware.types import Polarity, Positions, Question, Site, require

Held = Literal["adapter", "vector"]
Form = Literal["peft", "own", "bare"]

DELTA = "delta.safetensors"
PICKLED = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"})
"""Endings of files that `torch.load` would have to run to read."""

_BLOCK = re.compile(r"(?:^|[^a-z])(?:layers?|blocks?|h)[._-]?(\d+)", re.I)
"""A block's number where a tensor's name says that it is one: `layer_15`, `blocks.15.mlp`, `transformer.h.3`."""

CONVERT = (
    "safetensors only, since reading a pickle runs what it holds. Where you trust the file: "
    "v = torch.load(path, weights_only=True); safetensors.torch.save_file({'15': v.contiguous()}, 'vector.safetensors')"
)


@dataclass(frozen=True)
class Given:
    """An adapter or a vector that was made elsewhere, measured without a fit. Made by `given`, which reads what it needs.

    Neither the examples nor the seed change it. The `low` polarity is the reverse of what it adds: −v for a vector, −B
    for a low-rank delta. It is the negated weights, and not what training on the opposite examples would have given.

    Attributes:
        path: a PEFT folder, a `delta.safetensors` or the cell's folder around it, or a safetensors file of bare vectors.
        sha256: of the content, so that the cell's id changes with it; see `given`.
        site: where a bare vector is added, and which one of several it is; empty for what names its own sites.
        positions: where it acts; for one of our own files what its header says.
        strength: multiplies what is added.
        holds: what is in there, for the label; a file of our own with any low-rank delta is an adapter.
    """

    path: str = ""
    sha256: str = ""
    site: str = ""
    positions: Positions = "all"
    strength: float = 1.0
    holds: Held = "adapter"

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Nothing comes before it."""
        return False

    @property
    def label(self) -> str:
        """As written on a page; said without opening the file, which may be gone when a page is written again."""
        path = Path(self.path)
        name = f"{path.parent.name}/{DELTA}" if path.name == DELTA and path.parent.name else path.name
        return f"given {self.holds} {name or self.path}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """What the file holds, times `strength`, with its sign turned for `low`; nothing is trained.

        Raises:
            BadFile: the content is not what it was when it was named, or is broken, not finite or zero throughout.
            BadData: it has no checksum, or site, positions or kind are not those of the file.
            BadModel: it does not fit the model.
            UnknownName: no such site in the model, or no such vector in the file.
        """
        path = Path(self.path)
        form, files = _find(path)
        require(
            bool(self.sha256),
            BadData(
                f"{path}: named without a checksum; one is needed, or a stored cell would outlive the file it was made of. "
                "Name it with given(path)."
            ),
        )
        require(
            math.isfinite(self.strength),
            BadData(f"{path}: strength {self.strength}; a finite number is needed. Set it so."),
        )
        found = _digest(files)
        if found != self.sha256:
            raise BadFile(
                f"{path}: its checksum is {found[:12]}…; {self.sha256[:12]}…, as when it was named, is needed. "
                "Put the old content back, or name the new one with given(path)."
            )
        _check_site(path, form, self.site)
        made = self._made(path, form, files, model)
        holds = _holds(made)
        if holds != self.holds:
            raise BadData(
                f"{path}: said to hold a given {self.holds}; it holds a given {holds}. Name it with given(path)."
            )
        turned = {site: _times(d, self.strength, polarity, model.device) for site, d in sorted(made.deltas.items())}
        origin = {"path": self.path, "sha256": self.sha256, "of": dict(made.provenance)}
        return Intervention(turned, made.positions, {"method": self.label, **origin})

    def _made(self, path: Path, form: Form, files: Sequence[Path], model: Model) -> Intervention:
        """The file's intervention on that model, as it stands there."""
        if form == "peft":
            return replace(peft_io.read(path, model), positions=self.positions)
        what = str(path)
        if form == "own":
            made = _own(files[0])
            if made.positions != self.positions:
                raise BadData(
                    f"{path}: got positions {self.positions!r}; its header says {made.positions!r}, and elsewhere it would be "
                    "another intervention. Name it with given(path), without positions."
                )
        else:
            name, v = _vector(files[0], self.site)
            what = f"{path}, tensor {name}"
            made = Intervention({model.resolve(Site.parse(self.site)): Constant(v)}, self.positions, {"tensor": name})
        try:
            made.check(model)
        except BadModel as error:
            raise BadModel(f"{what}: {error}") from error
        return made


def given(path: str | Path, site: str = "", positions: Positions | None = None, strength: float = 1.0) -> Given:
    """The recipe that measures what lies at `path`, with the checksum of its content.

    The checksum is SHA-256 of the file, or for a PEFT folder of the names and checksums of its config and weights.
    What can be checked without the model is checked here, the rest in `fit`.

    Args:
        path: a PEFT folder; a `delta.safetensors` of this package, or the cell's folder that holds one; or a safetensors
            file of vectors `[D]`: one, or several whose names are block numbers or contain one.
        site: where a bare vector is added, such as `15` or `15.mlp`; of several the one of that block is taken.
        positions: where it acts. None: `all`, as PEFT has it, or what the header of one of our own files says.
        strength: multiplies what is added.

    Raises:
        BadFile: nothing there, a torch.load format, a broken file, or values that are not finite or zero throughout.
        BadData: a bare vector without a site, a site or positions for what names its own.
        UnknownName: several vectors and none, or more than one, for that site; lists them.
    """
    path = Path(path)
    form, files = _find(path)
    _check_site(path, form, site)
    at: Positions = positions or "all"
    holds: Held = "vector" if form == "bare" else "adapter"
    if form == "own":
        made = _own(files[0])
        at, holds = positions or made.positions, _holds(made)
        if at != made.positions:
            raise BadData(
                f"{path}: got positions {at!r}; its header says {made.positions!r}, and elsewhere it would be another "
                "intervention. Leave them out."
            )
    elif form == "bare":
        _vector(files[0], site)
        site = str(Site.parse(site))
    return Given(str(path), _digest(files), site, at, strength, holds)


# which file ----------------------------------------------------------------------------------------------------------


def _find(path: Path) -> tuple[Form, tuple[Path, ...]]:
    """What kind of thing lies there, and the files that are its content."""
    if path.is_dir():
        return _find_in(path)
    require(
        path.is_file(),
        BadFile(f"{path}: there is no such file or folder; an adapter or a vector is needed. Correct the path."),
    )
    if path.suffix.lower() in PICKLED:
        raise BadFile(f"{path}: got a {path.suffix} file; {CONVERT}.")
    if path.name == peft_io.WEIGHTS:
        raise BadFile(f"{path}: got an adapter's weights alone; its config is needed too. Give the folder they lie in.")
    try:
        with safe_open(path, framework="pt") as file:
            return ("own" if "selfaware" in (file.metadata() or {}) else "bare"), (path,)
    except (OSError, SafetensorError) as error:
        raise BadFile(f"{path}: {error}; {CONVERT}.") from error


def _find_in(folder: Path) -> tuple[Form, tuple[Path, ...]]:
    config, weights, delta = folder / peft_io.CONFIG, folder / peft_io.WEIGHTS, folder / DELTA
    peft = config.is_file() or weights.is_file()
    if peft and delta.is_file():
        raise BadFile(
            f"{folder}: holds a PEFT adapter and {DELTA}; one of them is needed. "
            f"Give {delta} itself, or move the adapter to a folder of its own."
        )
    if delta.is_file():
        if (folder / DONE).is_file():
            Cell(folder).whole()  # a damaged tensor would otherwise be taken for the content
        return "own", (delta,)
    missing = [f.name for f in (config, weights) if not f.is_file()]
    pickled = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in PICKLED)
    if pickled and weights.name in missing:
        raise BadFile(
            f"{folder}: holds {', '.join(pickled[:3])}; {CONVERT}; for a PEFT adapter save it with safe_serialization=True."
        )
    if missing:
        need = missing[0] if peft else f"{DELTA}, or {config.name} and {weights.name}"
        raise BadFile(f"{folder}: no {need} in it; it is needed. Give the folder of a cell or of a PEFT adapter.")
    return "peft", (config, weights)


def _digest(files: Sequence[Path]) -> str:
    if len(files) == 1:
        return checksum(files[0])
    return hashlib.sha256("".join(f"{f.name} {checksum(f)}\n" for f in files).encode()).hexdigest()


def _check_site(path: Path, form: Form, site: str) -> None:
    if site and form != "bare":
        what = "a PEFT adapter" if form == "peft" else "one of our own files"
        raise BadData(f"{path}: got site {site!r}; {what} names its own. Leave the site out.")


# what is in it -------------------------------------------------------------------------------------------------------


def _own(path: Path) -> Intervention:
    """What one of our own files holds, once it is known to add something."""
    made = Intervention.load(path)
    for site, delta in made.deltas.items():
        for name, tensor in delta.tensors().items():
            _finite(path, f"{site}/{name}", tensor)
    if not made.norm() > 0:
        names = ", ".join(str(site) for site in made.deltas) or "no delta"
        raise BadFile(f"{path}: adds nothing ({names}: all zero); a trained intervention is needed. Fit it again.")
    return made


def _vector(path: Path, site: str) -> tuple[str, Tensor]:
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
    _finite(path, name, tensor)
    if not tensor.any():
        raise BadFile(
            f"{path}: tensor {name} {shape} is all zero; a vector that adds something is needed. Save it again."
        )
    return name, tensor


def _finite(path: Path, name: str, tensor: Tensor) -> None:
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
    said = _BLOCK.findall(name)
    if len(said) == 1 and int(said[0]) != Site.parse(site).block:
        raise BadData(
            f"{path}: tensor {name} is named for block {said[0]}; site {site} is another. "
            "Correct the site, or rename the tensor where its author counts otherwise."
        )
    return name


def _block(name: str) -> int | None:
    """The one block number in a tensor's name, None where there is none or more than one."""
    numbers = {int(n) for n in _BLOCK.findall(name) or re.findall(r"\d+", name)}
    return numbers.pop() if len(numbers) == 1 else None


def _by_block(item: tuple[str, object]) -> tuple[int, str]:
    block = _block(item[0])
    return (-1 if block is None else block, item[0])


def _holds(made: Intervention) -> Held:
    return "vector" if all(isinstance(d, Constant) for d in made.deltas.values()) else "adapter"


def _times(delta: Delta, strength: float, polarity: Polarity, device: torch.device) -> Delta:
    sign = 1.0 if polarity == "high" else -1.0
    if isinstance(delta, LowRank):
        return LowRank(delta.a.float().to(device), (sign * delta.b.float()).to(device), delta.scale * strength)
    return Constant((sign * strength * added(delta).float()).to(device))
