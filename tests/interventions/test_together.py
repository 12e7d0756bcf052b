"""Several fits in one batch are the fits one by one; what one draws or how it ends is no other's business."""

import pytest
import torch

from selfaware.errors import FitFailed
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.together import Trained, fit_together
from selfaware.interventions.train import Training
from selfaware.models import hooks
from selfaware.models.fake import Fake, fake
from selfaware.types import POSITIONS, Positions, Prompt, Question

SHORT = Training(learning_rate=0.03, epochs=2, batch=3)
RUNS = [("high", 0), ("low", 0), ("high", 1)]


def questions(count: int = 7) -> list[Question]:
    made = []
    for at in range(count):
        for order in (0, 1):
            options = (f"go on {at}", f"stop it now {at}")
            prompt = Prompt(f"Case {at}: " + "say " * (at % 3) + "what to do?", "I would")
            made.append(
                Question(f"{at}-{order}", f"f{at}", f"g{at}", "choices", prompt, options[:: 1 - 2 * order], order)
            )
    return made


def recipes(positions: Positions) -> list[Trained]:
    return [
        Vector(site="2", positions=positions, training=SHORT),
        Lora(site="1.mlp", rank=2, positions=positions, training=SHORT),
    ]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_together_is_one_by_one(kind: Fake, positions: Positions) -> None:
    net = fake(kind)
    for recipe in recipes(positions)[: 1 if kind == "gpt2" else 2]:
        told: list[float] = []
        made = fit_together(net, recipe, questions(), RUNS, lambda step, steps, loss, told=told: told.append(loss))
        for (polarity, seed), got in zip(RUNS, made, strict=True):
            alone = recipe.fit(fake(kind), questions(), polarity, seed, (), lambda *_: None)
            assert got.deltas.keys() == alone.deltas.keys()
            start = recipe.start(net, seed)
            for site, delta in alone.deltas.items():
                for name, tensor in delta.tensors().items():
                    assert float((got.deltas[site].tensors()[name] - tensor).abs().max()) < 2e-4
                    assert float((start.deltas[site].tensors()[name] - tensor).abs().max()) > 0.01
            assert torch.allclose(
                torch.tensor(got.provenance["losses"]), torch.tensor(alone.provenance["losses"]), atol=1e-4
            )
        means = torch.tensor([m.provenance["losses"] for m in made]).mean(0)
        assert torch.allclose(torch.tensor(told), means, atol=1e-5)
    assert hooks.hook_count(net.net) == 0


def test_a_run_that_breaks_is_named() -> None:
    wild = Lora(site="1.mlp", training=Training(learning_rate=1e25, epochs=3, batch=3, clip=1e30))
    with pytest.raises(FitFailed, match=r"high, seed 0|low, seed 0"):
        fit_together(fake("llama"), wild, questions(), RUNS[:2], lambda *_: None)
