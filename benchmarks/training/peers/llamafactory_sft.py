"""LLaMA-Factory's supervised fine-tuning on tokens made beforehand: python llamafactory_sft.py JOB.json"""
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from datasets import Dataset, DatasetDict
from hf_watch import Watch, counting
from job import Measured, read_job, rows, write_result

# LLaMA-Factory imports torchaudio even for text, and there is none for this torch (environments.py): an empty one in its place.
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.train.sft import workflow  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402

IGNORED = -100  # label of a token that is not trained


def main() -> None:
    job, measured = read_job(), Measured()
    tokenized = Path(job.out) / "tokenized"
    DatasetDict({"train": Dataset.from_list([_row(r["tokens"], r["trained"]) for r in rows(job)])}).save_to_disk(tokenized)
    accumulate = job.batch // job.micro_batch
    _count_batches(measured, accumulate)
    arguments = {
        "stage": "sft", "do_train": True, "model_name_or_path": job.model, "adapter_name_or_path": job.adapter,
        "finetuning_type": "lora", "lora_target": "all", "lora_rank": job.rank, "lora_alpha": int(job.alpha),
        "template": "empty", "dataset": "tokenized", "tokenized_path": str(tokenized), "cutoff_len": 8192,
        "use_cpu": True, "bf16": job.precision == "bf16", "flash_attn": "sdpa", "disable_gradient_checkpointing": True,
        "per_device_train_batch_size": job.micro_batch, "gradient_accumulation_steps": accumulate, "max_steps": job.steps,
        "learning_rate": job.learning_rate, "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 1.0,
        "disable_shuffling": True, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "output_dir": str(Path(job.out) / "run"), "seed": 0,
    }  # fmt: skip
    run_exp(arguments, callbacks=[Watch(measured)])
    measured.notes.append("torchaudio, which it imports even for text, is an empty module here")
    measured.notes.append("gradient checkpointing, LLaMA-Factory's default, is off: it would be slower")
    write_result(job, measured, ["llamafactory", "transformers", "peft", "accelerate", "datasets", "torch"])


def _row(tokens: list[int], trained: list[int]) -> dict[str, list[int] | None]:
    labels = [token if t else IGNORED for token, t in zip(tokens, trained, strict=True)]
    media: dict[str, list[int] | None] = {"images": None, "videos": None, "audios": None}  # its collator asks for them
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels, **media}


def _count_batches(measured: Measured, accumulate: int) -> None:
    """The collator is made inside LLaMA-Factory: count at the trainer's door."""
    made = workflow.CustomSeq2SeqTrainer

    class Counted(made):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.data_collator = counting(self.data_collator, measured, accumulate)

    workflow.CustomSeq2SeqTrainer = Counted


if __name__ == "__main__":
    main()
