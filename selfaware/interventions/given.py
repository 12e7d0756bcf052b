"""Somebody else's adapter or vector as a recipe, checked and never fitted. Knows files of weights, no experiment."""

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open

from selfaware.errors import BadData, BadFile, BadModel
from selfaware.interventions import bare, peft_io
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank, Recipe, Step, added
from selfaware.models.hf import Model
from selfaware.store import DONE, Cell, checksum
from selfaware.types import Polarity, Positions, Question, Site, require

Held = Literal["adapter", "vector"]
Form = Literal["peft", "own", "bare"]

DELTA = "delta.safetensors"
PICKLED = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"})
"""Endings of files that `torch.load` would have to run to read."""

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
        block: the last block that it changes; −1 where nothing says it.
    """

    path: str = ""
    sha256: str = ""
    site: str = ""
    positions: Positions = "all"
    strength: float = 1.0
    holds: Held = "adapter"
    block: int = -1

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
        last = max(site.block for site in made.deltas)
        require(
            self.block in (-1, last),
            BadData(f"{path}: said to reach block {self.block}; it reaches {last}. Name it with given(path)."),
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
            name, v = bare.vector(files[0], self.site)
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
    block = -1
    if form == "own":
        made = _own(files[0])
        at, holds, block = positions or made.positions, _holds(made), max(s.block for s in made.deltas)
        if at != made.positions:
            raise BadData(
                f"{path}: got positions {at!r}; its header says {made.positions!r}, and elsewhere it would be another "
                "intervention. Leave them out."
            )
    elif form == "bare":
        bare.vector(files[0], site)
        site, block = str(Site.parse(site)), Site.parse(site).block
    else:
        block = _last_block(files[1])
    return Given(str(path), _digest(files), site, at, strength, holds, block)


def _last_block(weights: Path) -> int:
    """The highest block number among the names of an adapter's weights; −1 where they can't be read, of which `fit` says why."""
    with suppress(OSError, SafetensorError), safe_open(weights, framework="pt") as file:
        return max((int(n) for name in file.keys() for n in bare.BLOCK.findall(name)), default=-1)  # noqa: SIM118
    return -1


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
            bare.finite(path, f"{site}/{name}", tensor)
    if not made.norm() > 0:
        names = ", ".join(str(site) for site in made.deltas) or "no delta"
        raise BadFile(f"{path}: adds nothing ({names}: all zero); a trained intervention is needed. Fit it again.")
    return made


def _holds(made: Intervention) -> Held:
    return "vector" if all(isinstance(d, Constant) for d in made.deltas.values()) else "adapter"


def _times(delta: Delta, strength: float, polarity: Polarity, device: torch.device) -> Delta:
    sign = 1.0 if polarity == "high" else -1.0
    if isinstance(delta, LowRank):
        return LowRank(delta.a.float().to(device), (sign * delta.b.float()).to(device), delta.scale * strength)
    return Constant((sign * strength * added(delta).float()).to(device))
