"""How alike random directions are where a model's own states lie: the null of a cosine. Knows a site, no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention
from selfaware.models.activations import outputs
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, OnStep
from selfaware.readouts.geometry import effective_dimension, null_cosines
from selfaware.types import Open, Passage, Question, Site, Template


@dataclass(frozen=True)
class NullCosines:
    """|cosine| of random pairs of directions, drawn evenly and with the covariance of a site's outputs.

    What is seen: `isotropic` and `matched`, ascending, `[draws]` each; `dimension`, the participation ratio of the outputs;
    `rows`, how many outputs there were. Outputs are those at the positions of each question's options, no edit attached.

    Attributes:
        site: whose outputs.
        draws: pairs of each kind.
        seed: of the draws.
    """

    site: str
    draws: int
    seed: int
    template: Template

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return "null of cosines"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class.

        Raises:
            BadData: no questions with options, or outputs that do not vary.
        """
        rows: list[Row] = []
        for question in asked:
            if isinstance(question, Question):
                rendered = model.render(question, self.template)
                rows += [Row(rendered.prompt, spelled[0]) for spelled in rendered.options]
        if not rows:
            raise BadData("null of cosines: got no questions; the covariance is that of outputs on some. Give some.")
        x = outputs(model, Site.parse(self.site), rows)
        null = null_cosines(x, self.draws, self.seed)
        size = x.new_tensor([effective_dimension(x, centred=True)])
        return Looked({
            "isotropic": null.isotropic.float(), "matched": null.matched.float(), "dimension": size, "rows": x.new_tensor([float(len(x))]),
        })  # fmt: skip
