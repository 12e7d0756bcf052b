"""What a site gives out where an edit at `answer` would act. Knows sites and ids; must not know what they stand for."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadModel
from selfaware.models import hooks
from selfaware.models.batch import Row, bucketed
from selfaware.models.hf import Model
from selfaware.types import Site


def outputs(model: Model, site: Site, rows: Sequence[Row], batch: int = 8) -> Float[Tensor, "N D"]:
    """The site's output at each row's last prompt token and its answer's tokens but the last, float32, on the CPU.

    Row after row, in the order given, `N` the tokens of all answers. The pass ends after the site's block.

    Args:
        batch: rows in a forward pass.

    Raises:
        UnknownName: no such site.
        BadModel: the site's output is not one vector for each token, or an edit is attached.
    """
    if not model.untouched:
        raise BadModel(
            f"site {site}: an edit is attached; outputs are those of {model.name} itself. Leave its context first."
        )
    width, module = model.output_width(site), model.module(site)
    after = [*model.blocks, model.head][site.block + 1]
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for bucket in bucketed(rows, batch):
            some = [rows[i] for i in bucket]
            with model.running(some) as ready, hooks.recorded([module]) as seen:
                hooks.input_of(after, ready.forward)
            made = seen[0]
            if made is None:
                raise BadModel(f"site {site}: {model.name} did not run it. Use {site.block}.mlp or {site.block}.")
            parts = torch.split(made[ready.answer].float().cpu(), [len(row.answer) for row in some])
            found |= dict(zip(bucket, parts, strict=True))
    return torch.cat([torch.zeros(0, width), *(found[i] for i in range(len(rows)))])
