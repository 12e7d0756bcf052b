"""LoRA fits with PEFT and a loop written by hand: `head` is `full` (model(**batch).logits) or `scored` (answers only)."""

from typing import Any

import torch
from fitting import Batch, means, train
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from talk import Clock, Job, Run, loaded, serve
from torch import Tensor


def wrapped(model: Any, job: Job, start: str) -> Any:
    """The model under PEFT, its A and B those of the `start` file, whose names are `15.mlp.down_proj/a`."""
    names = sorted({site.rpartition(".")[2] for site in job["sites"]})
    config = LoraConfig(
        r=job["rank"],
        lora_alpha=job["alpha"],
        target_modules=names,
        layers_to_transform=[job["block"]],
        lora_dropout=0.0,
    )
    adapted = get_peft_model(model, config)
    modules, tensors = dict(adapted.named_modules()), load_file(start)
    for site in job["sites"]:
        (found,) = [m for name, m in modules.items() if name.endswith("." + site) and name.count(".lora_") == 0]
        with torch.no_grad():
            found.lora_A["default"].weight.copy_(tensors[f"{site}/a"])
            found.lora_B["default"].weight.copy_(tensors[f"{site}/b"])
    return adapted


def load(job: Job) -> Run:
    """All fits of the job, one after the other."""
    model = loaded(job)
    with torch.no_grad():
        means(model, Batch(job["fits"][0]["batches"][0]), job["head"])

    def one(fit: Job, clock: Clock) -> list[float]:
        adapted = wrapped(model, job, fit["start"])
        places: list[Tensor] = []

        def masked(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            return output * places[0][..., None].to(output)

        if job["positions"] != "all":
            for name, module in adapted.named_modules():
                if name.endswith("lora_B.default"):
                    module.register_forward_hook(masked)

        def forward(batch: Batch) -> Tensor:
            places[:] = [batch.places(job["positions"])]
            return means(adapted if job["head"] == "full" else adapted.get_base_model(), batch, job["head"])

        losses = train(forward, [w for w in adapted.parameters() if w.requires_grad], fit["batches"], job, clock)
        adapted.unload()
        return losses

    return lambda clock: [loss for fit in job["fits"] for loss in one(fit, clock)]


if __name__ == "__main__":
    serve(load, ["peft", "transformers", "torch"])
