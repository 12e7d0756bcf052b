"""Sites to modules: names, widths, linear parts, which names are one place. Knows blocks, no tokenizer and no text."""

import re
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn

from selfaware.errors import BadModel, unknown
from selfaware.models import hooks
from selfaware.types import Site

POST_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm")
"""Names under which a block keeps the norm between its MLP and the residual stream (Gemma 2 and 3, Olmo 2, GLM 4)."""


@final
class Sites:
    """The places at which a net can be changed.

    Args:
        blocks: the transformer blocks, first to last.
        width: of the residual stream, `D`.
        name: the model's, for messages.
        run: makes a forward pass over one token; attached edits must let it pass untouched.
    """

    def __init__(self, blocks: list[nn.Module], width: int, name: str, run: Callable[[], object]) -> None:
        self.blocks, self.width, self.name, self._run = blocks, width, name, run
        self._widths: dict[Site, int] = {}

    def module(self, site: Site) -> nn.Module:
        """The module whose output `site` is.

        Raises:
            UnknownName: the block or the part does not exist; names the nearest.
        """
        if site.block >= len(self.blocks):
            raise unknown(
                "site",
                str(site),
                [f"{b}.mlp" for b in range(len(self.blocks))],
                f"{self.name} has {len(self.blocks)} blocks.",
            )
        block = self.blocks[site.block]
        if not site.part:
            return block
        parts = dict(block.named_modules())
        if site.part == "mlp.residual":
            return (
                next((parts[n] for n in POST_NORMS if n in parts), parts["mlp"])
                if "mlp" in parts
                else self._no_part(site, parts)
            )
        if site.part not in parts or isinstance(parts[site.part], nn.ModuleList):
            return self._no_part(site, parts)
        return parts[site.part]

    def _no_part(self, site: Site, parts: dict[str, nn.Module]) -> nn.Module:
        known = [f"{site.block}.{n}" for n in parts if n] + [f"{site.block}.mlp.residual"] * ("mlp" in parts)
        raise unknown("site", str(site), known, f"Block {site.block} of {self.name}.")

    def resolve(self, site: Site) -> Site:
        """The one name of what `site` adds to: parts with the same output share it.

        `mlp.down_proj` and, where the block has no post-norm, `mlp.residual` give the MLP's output: all become `mlp`.
        A post-norm's own name becomes `mlp.residual`. For vectors only; a LoRA's site is its linear module.
        """
        module, parts = self.module(site), dict(self.blocks[site.block].named_modules())
        same = [parts[n] for n in ("mlp", "mlp.down_proj") if n in parts]
        if any(module is m for m in same):
            return Site(site.block, "mlp")
        return Site(site.block, "mlp.residual") if site.part in POST_NORMS and "mlp" in parts else site

    def linears(self, where: str) -> tuple[Site, ...]:
        """The linear modules that a LoRA at `where` goes on: `all-linear`, a linear module, all those inside a part, or inside it in several blocks.

        Args:
            where: `10-19` are the blocks 10 to 19, `10-19.mlp` their MLPs.

        Raises:
            UnknownName: no such site.
            BadModel: a site without a linear module, or blocks that run backwards.
        """
        if where == "all-linear":
            return tuple(s for b in range(len(self.blocks)) for s in self.linears(str(b)))
        if several := re.fullmatch(r"(\d+)-(\d+)(\..+)?", where.strip()):
            first, last, part = int(several[1]), int(several[2]), several[3] or ""
            if last < first:
                raise BadModel(
                    f"site {where}: blocks {first} to {last}; the lower one comes first. Write {last}-{first}{part}."
                )
            return tuple(s for b in range(first, last + 1) for s in self.linears(f"{b}{part}"))
        site = Site.parse(where)
        module = self.module(site)
        dotted = [(site.part, module)] if isinstance(module, nn.Linear) else [
            (f"{site.part}.{name}".strip("."), inner) for name, inner in module.named_modules() if isinstance(inner, nn.Linear)
        ]  # fmt: skip
        if not dotted:
            raise BadModel(
                f"site {where}: holds no linear module; a LoRA needs one. Use {site.block}.mlp or a projection inside it."
            )
        return tuple(Site(site.block, part) for part, _ in dotted)

    def output_width(self, site: Site) -> int:
        """Width of the site's output, `D`; for an unusual part it is measured once, by running one token.

        Raises:
            BadModel: the part's output is not one vector for each token.
        """
        module = self.module(site)
        if isinstance(module, nn.Linear):
            return int(module.out_features)
        if site.part in ("", "mlp", "mlp.residual"):
            return self.width
        if site not in self._widths:
            with hooks.recorded([module]) as seen:
                self._run()
            shape = _shape(seen[0])
            # A shared expert sees positions as rows; a router does too, but nobody reads the logits it gives first.
            expert = len(shape) == 2 and any(isinstance(m, nn.Linear) for m in module.modules())
            if len(shape) != 3 and not expert:
                got = f"shape {shape} for one token" if shape else "nothing"
                raise BadModel(
                    f"site {site}: its output is {got}; one vector a token is needed. Use {site.block}.mlp or {site.block}."
                )
            self._widths[site] = shape[-1]
        return self._widths[site]


def _shape(output: Tensor | None) -> tuple[int, ...]:
    return () if output is None else tuple(output.shape)


def find_blocks(net: nn.Module, count: int) -> list[nn.Module]:
    """The transformer blocks: the module list whose length is the configured number of layers.

    Raises:
        BadModel: the net holds no such list.
    """
    found = [m for m in net.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not found:
        raise BadModel(
            f"model of type {type(net).__name__}: no list of {count} blocks inside; a decoder-only transformer is needed. Use another model."
        )
    return list(found[0])


def find_head(net: Any) -> nn.Module:
    """The module that turns the last residuals into logits.

    Raises:
        BadModel: the net names none.
    """
    head = net.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise BadModel(
            f"model of type {type(net).__name__}: no output embeddings; a causal language model is needed. Use another model."
        )
    return head
