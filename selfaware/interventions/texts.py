"""Texts as ids, and what sites give out over them, edited or not. Knows sites and ids; must not know what they stand for."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData, BadModel
from selfaware.models import hooks
from selfaware.models.batch import Row, bucketed
from selfaware.models.hf import Model
from selfaware.models.render import Ids, encode
from selfaware.types import Positions, Site

BATCH = 8
"""Texts in a forward pass."""


def tokens(model: Model, text: str) -> tuple[Ids, int]:
    """A text's ids, and how many of them to pass over: see `outliers`."""
    ids = encode(model.tokenizer, text, "raw")
    return ids, outliers(model, ids)


def outliers(model: Model, ids: Ids) -> int:
    """How many ids at the start to pass over: the first token, and a begin-of-sequence token before it.

    What a model does there is unlike what it does at any other.
    """
    bos = model.tokenizer.bos_token_id
    return 1 + (bos is not None and ids[:1] == (bos,))


def rows_over(ids: Ids, skip: int, last: int, positions: Positions) -> list[Row]:
    """Rows in which an edit acts on each of the text's last tokens; `outputs` gives these last, in order.

    At `answer` and `all` that is one row whose answer is the text after its outliers. At `last_prompt` an edit acts on one
    token of a row, so that there is a row for each.

    Args:
        skip: ids at the start that are never looked at.
        last: how many tokens at the end are.
    """
    # The last id of an answer is predicted and not run: any will do.
    if positions == "last_prompt":
        return [Row(ids[: at + 1], ids[:1]) for at in range(len(ids) - last, len(ids))]
    return [Row(ids[:skip], ids[skip:] + ids[:1])]


def outputs(model: Model, sites: Sequence[Site], rows: Sequence[Row]) -> list[list[Float[Tensor, "T D"]]]:
    """For each site, and each row in the order given, its output where an edit at `answer` would act, float32, on the CPU.

    With what is attached. Whole texts run and nothing is kept, so that two models' passes over the same rows are alike, to
    the bit, up to where they differ. A pass ends after the last site's block.

    Raises:
        UnknownName: no such site.
        BadModel: the model did not run a site.
    """
    modules = [model.module(site) for site in sites]
    after = [*model.blocks, model.head][max(site.block for site in sites) + 1]
    found: list[dict[int, Tensor]] = [{} for _ in sites]
    with torch.no_grad():
        for bucket in bucketed(rows, BATCH):
            some = [rows[i] for i in bucket]
            with model.running(some, plain=True) as ready, hooks.recorded(modules) as seen:
                hooks.input_of(after, ready.forward)
            for site, made, whole in zip(sites, seen, found, strict=True):
                if made is None:
                    raise BadModel(
                        f"site {site}: {model.name} did not run it; a part that runs is needed. Use {site.block}.mlp or {site.block}."
                    )
                wide = made.reshape(*ready.answer.shape, -1)  # OPT's MLP gives every position as a row
                parts = torch.split(wide[ready.answer].float().cpu(), [len(row.answer) for row in some])
                whole |= dict(zip(bucket, parts, strict=True))
    return [[whole[i] for i in range(len(rows))] for whole in found]


def long_enough(what: str, ids: Ids, skip: int, last: int, context: int) -> None:
    """Whether a text has that many tokens after its outliers, and fits.

    Raises:
        BadData: it has not.
        BadModel: it is longer than the context.
    """
    if len(ids) - skip < last:
        raise BadData(
            f"{what}: {len(ids)} tokens; {skip} are passed over and {last} looked at. Give longer texts, or look at fewer."
        )
    if len(ids) > context:
        raise BadModel(f"{what}: {len(ids)} tokens; the model's context holds {context}. Shorten it or leave it out.")
