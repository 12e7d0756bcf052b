"""A grid of layers and strengths: its questions as one right-padded batch, its vectors, how a score is read off logits."""

from collections.abc import Iterator

import torch
from safetensors.torch import load_file
from talk import Job
from torch import Tensor


class Grid:
    """The job's questions and vectors; `places` is where a vector is added, `[Q, T]`."""

    def __init__(self, job: Job) -> None:
        prompts = job["prompts"]
        longest = max(len(p) for p in prompts)
        self.ids = torch.zeros((len(prompts), longest), dtype=torch.long)
        self.mask = torch.zeros_like(self.ids)
        for at, prompt in enumerate(prompts):
            self.ids[at, : len(prompt)] = torch.tensor(prompt)
            self.mask[at, : len(prompt)] = 1
        self.inputs = {"input_ids": self.ids, "attention_mask": self.mask}
        self.rows, self.ends = torch.arange(len(prompts)), self.mask.sum(1) - 1
        last = torch.zeros_like(self.mask, dtype=torch.bool)
        last[self.rows, self.ends] = True
        self.places = self.mask.bool() if job["positions"] == "all" else last
        self.options, self.added = job["options"], job["added"]
        self.vectors = {int(name): v for name, v in load_file(job["vectors"]).items()}

    def settings(self) -> Iterator[tuple[int, Tensor, float]]:
        """Every block with its vector and each strength, blocks first."""
        for block in sorted(self.vectors):
            for added in self.added:
                yield block, self.vectors[block], added

    def last(self, states: Tensor) -> Tensor:
        """The states at the prompts' last tokens, `[Q, …]`."""
        return states[self.rows, self.ends]

    def scores(self, logits: Tensor) -> list[float]:
        """Log-odds of the high option over the low one for each question, of logits `[Q, V]`; spellings are summed."""
        logs = logits.float()
        return [
            float(row[high].logsumexp(0) - row[low].logsumexp(0))
            for row, (high, low) in zip(logs, self.options, strict=True)
        ]
