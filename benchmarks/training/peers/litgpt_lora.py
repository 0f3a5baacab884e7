"""litgpt's LoRA fine-tuning on tokens made beforehand: python litgpt_lora.py JOB.json"""
import csv
from pathlib import Path
from typing import Any

import torch
from job import Job, Measured, read_job, rows, write_result
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.data.base import get_sft_collate_fn
from litgpt.finetune import lora
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
from torch.utils.data import DataLoader

CONFIG = "SmolLM2-135M-Instruct"  # litgpt's name of the architecture
IGNORED = -100  # label of a token that is not trained

Sample = dict[str, Any]


class Trained(Exception):
    """Training is over; what litgpt does after it (saving, merging) is not measured."""


class Tokens(DataModule):
    """Rows of tokens in their order, never shuffled."""

    prompt_style = None

    def __init__(self, job: Job, measured: Measured) -> None:
        super().__init__()
        self.samples = [_sample(r["tokens"], r["trained"]) for r in rows(job)]
        self.job, self.measured = job, measured
        self.collate = get_sft_collate_fn()

    def connect(self, *args: object, **kwargs: object) -> None:
        """Nothing to learn from the tokenizer: the tokens are there."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.samples, batch_size=self.job.micro_batch, shuffle=False, collate_fn=self._counted)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.samples[:1], batch_size=1, collate_fn=self.collate)

    def _counted(self, samples: list[Sample]) -> Sample:
        batch = self.collate(samples)
        self.measured.examples.append(len(samples))
        self.measured.computed_tokens.append(batch["input_ids"].numel())
        return batch


def main() -> None:
    job, measured = read_job(), Measured()
    torch.manual_seed(0)

    def stop(*args: object, **kwargs: object) -> None:
        raise Trained

    def constant(optimizer: torch.optim.Optimizer, **kwargs: object) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    lora.save_lora_checkpoint = stop
    lora.get_lr_scheduler = constant  # litgpt knows only warm-up and cosine
    try:
        _train(job, Tokens(job, measured))
    except Trained:
        measured.note_memory()
    _read_metrics(job, measured)
    measured.notes.append("litgpt draws its own first adapter and clips no gradients: its losses are near those of the others, not equal")
    write_result(job, measured, ["litgpt", "lightning", "torch"])


def _train(job: Job, data: Tokens) -> None:
    adamw = {"lr": job.learning_rate, "weight_decay": 0.0, "betas": [0.9, 0.999], "eps": 1e-8}
    lora.setup(
        checkpoint_dir=_converted(job), out_dir=Path(job.out) / "run", data=data, devices=1,
        precision="bf16-true" if job.precision == "bf16" else "32-true",
        lora_r=job.rank, lora_alpha=int(job.alpha), lora_dropout=0.0, lora_query=True, lora_key=True, lora_value=True,
        lora_projection=True, lora_mlp=True, lora_head=False,
        train=TrainArgs(
            save_interval=None, log_interval=1, global_batch_size=job.batch, micro_batch_size=job.micro_batch,
            lr_warmup_steps=0, epochs=2, max_steps=job.steps,
        ),
        eval=EvalArgs(interval=10**9, max_new_tokens=1, max_iters=1, initial_validation=False, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": adamw}, seed=0,
    )  # fmt: skip


def _converted(job: Job) -> Path:
    """The base model in litgpt's format."""
    folder = Path(job.out) / CONFIG
    folder.mkdir(parents=True, exist_ok=True)
    for file in Path(job.model).iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    convert_hf_checkpoint(folder, model_name=CONFIG)
    return folder


def _sample(tokens: list[int], trained: list[int]) -> Sample:
    labels = [token if t else IGNORED for token, t in zip(tokens, trained, strict=True)]
    counts = {"raw": len(tokens), "raw_plus_prompt_template": len(tokens)}
    return {"input_ids": torch.tensor(tokens), "labels": torch.tensor(labels), "token_counts": counts}


def _read_metrics(job: Job, measured: Measured) -> None:
    """litgpt's own log has a line for each micro-batch; several make a step."""
    log = next((Path(job.out) / "run").glob("**/metrics.csv"))
    with log.open(encoding="utf-8", newline="") as file:
        lines = [row for row in csv.DictReader(file) if row.get("iter_time")]
    k = job.batch // job.micro_batch
    groups = [lines[i : i + k] for i in range(0, len(lines), k)]
    measured.seconds = [sum(float(row["iter_time"]) for row in g) for g in groups]
    measured.losses = [float(g[-1]["loss"]) for g in groups]
    measured.examples = [sum(measured.examples[i : i + k]) for i in range(0, len(lines), k)]
    measured.computed_tokens = [sum(measured.computed_tokens[i : i + k]) for i in range(0, len(lines), k)]


if __name__ == "__main__":
    main()
