"""LoRA fits with TRL's SFTTrainer as it comes: gradient checkpointing and all, only the batch size and the order set."""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from talk import Clock, Job, Run, loaded, serve
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer


def load(job: Job) -> Run:
    """All fits of the job; a trainer's own making is not measured, its training is. Losses are means over tokens."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    names = sorted({site.rpartition(".")[2] for site in job["sites"]})
    model = loaded(job)
    with torch.no_grad():
        model(torch.tensor([job["fits"][0]["batches"][0][0][0]]))

    def once(clock: Clock) -> list[float]:
        losses: list[torch.Tensor] = []

        class Watched(SFTTrainer):  # type: ignore[misc]
            def training_step(self, *args: Any, **kwargs: Any) -> Any:
                loss = super().training_step(*args, **kwargs)
                losses.append(loss.detach())
                clock.mark()
                return loss

        (fit,) = job["fits"]
        # Tokenised beforehand, so that both sides see the same tokens; for text TRL would add an end-of-text token.
        # The masks say what its default for prompt and completion says: the loss is on the completion.
        rows = [
            {"input_ids": p + a, "completion_mask": [0] * len(p) + [1] * len(a)} for b in fit["batches"] for p, a in b
        ]
        with tempfile.TemporaryDirectory() as folder:
            trainer = Watched(
                model=model,
                args=SFTConfig(
                    output_dir=folder, per_device_train_batch_size=job["batch"], num_train_epochs=1, use_cpu=True, bf16=job["dtype"] == "bfloat16",
                    train_sampling_strategy="sequential", completion_only_loss=True, learning_rate=job["learning_rate"],
                    logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
                ),
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
                peft_config=LoraConfig(
                    r=job["rank"], lora_alpha=job["alpha"], target_modules=names, layers_to_transform=[job["block"]],
                    lora_dropout=0.0,
                ),
            )  # fmt: skip
            start = load_file(fit["start"])
            for name, module in trainer.model.named_modules():
                for site in job["sites"]:
                    if name.endswith("." + site):
                        with torch.no_grad():
                            module.lora_A["default"].weight.copy_(start[f"{site}/a"])
            clock.start()
            trainer.train()
            trainer.model.unload()
        return [float(x) for x in losses]

    return once


if __name__ == "__main__":
    serve(load, ["trl", "peft", "transformers", "torch"])
