"""Unsloth's model and trainer, for a CUDA GPU: python unsloth_sft.py JOB.json. Not yet run: written on a machine without one."""
from unsloth import FastLanguageModel  # isort: skip – it patches the libraries below, and wants to be the first

from datasets import Dataset
from hf_watch import Watch, counting
from job import Job, Measured, read_job, rows, write_result
from peft import PeftModel
from safetensors.torch import load_file
from trl import SFTConfig, SFTTrainer

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    job = read_job()
    measured = Measured(device=job.device)
    data = Dataset.from_list([{"input_ids": r["tokens"], "completion_mask": r["trained"]} for r in rows(job)])
    longest = max(len(r["tokens"]) for r in rows(job))
    model, tokenizer = FastLanguageModel.from_pretrained(job.model, max_seq_length=longest, load_in_4bit=False, dtype=None)
    model = FastLanguageModel.get_peft_model(
        model, r=job.rank, lora_alpha=job.alpha, lora_dropout=0.0, bias="none", target_modules=PROJECTIONS,
        use_gradient_checkpointing=False,
    )  # fmt: skip
    _begin_with(model, job)
    accumulate = job.batch // job.micro_batch
    settings = SFTConfig(
        output_dir=job.out, bf16=True, max_steps=job.steps, per_device_train_batch_size=job.micro_batch,
        gradient_accumulation_steps=accumulate, learning_rate=job.learning_rate, lr_scheduler_type="constant",
        weight_decay=0.0, max_grad_norm=1.0, completion_only_loss=True, max_length=None, train_sampling_strategy="sequential",
        logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[Watch(measured)])
    trainer.data_collator = counting(trainer.data_collator, measured, accumulate)
    trainer.train()
    measured.notes.append("gradient checkpointing, Unsloth's default, is off: it would be slower")
    write_result(job, measured, ["unsloth", "unsloth_zoo", "trl", "transformers", "peft", "torch"])


def _begin_with(model: PeftModel, job: Job) -> None:
    """The adapter that every system starts from."""
    first = load_file(f"{job.adapter}/adapter_model.safetensors")
    named = {name.replace(".weight", ".default.weight"): tensor for name, tensor in first.items()}
    unknown = model.load_state_dict(named, strict=False).unexpected_keys
    if unknown:
        raise SystemExit(f"Unsloth's model has no place for {unknown[0]} of the first adapter")


if __name__ == "__main__":
    main()
