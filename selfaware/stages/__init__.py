"""KNOWS cells: fit → ask → score, and look, each a folder that is skipped when it is whole. Must not know a claim.

cells       what a cell is: frozen descriptions, hashed into ids
contents    what finished cells hold; needs no model
bench       the verbs that make cells, with the weights loaded when one needs them
"""

from selfaware.stages.bench import Bench, OnStep
from selfaware.stages.cells import Ask, Fit, Look, Read, Say
from selfaware.stages.contents import Answers, Questions, Seen, asked, looked, rescore, scored, vectors

__all__ = [
    "Answers",
    "Ask",
    "Bench",
    "Fit",
    "Look",
    "OnStep",
    "Questions",
    "Read",
    "Say",
    "Seen",
    "asked",
    "looked",
    "rescore",
    "scored",
    "vectors",
]
