"""TRL's SFTTrainer with a PEFT adapter, and on GPUs with Liger's kernels if the job says so: python trl_sft.py JOB.json"""
from datasets import Dataset
from hf_watch import Watch, counting
from job import Measured, read_job, rows, write_result
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main() -> None:
    job = read_job()
    measured = Measured(device=job.device)
    data = Dataset.from_list([{"input_ids": r["tokens"], "completion_mask": r["trained"]} for r in rows(job)])
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype="float32" if job.precision == "fp32" else "bfloat16", attn_implementation="sdpa"
    )
    model = PeftModel.from_pretrained(model, job.adapter, is_trainable=True)
    accumulate = 1 if job.packing else job.batch // job.micro_batch
    settings = SFTConfig(
        output_dir=job.out, use_cpu=job.device == "cpu", use_liger_kernel=job.liger, bf16=job.precision == "bf16", max_steps=job.steps,
        per_device_train_batch_size=1 if job.packing else job.micro_batch, gradient_accumulation_steps=accumulate,
        learning_rate=job.learning_rate, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
        gradient_checkpointing=False, completion_only_loss=True, packing=job.packing, padding_free=job.padding_free,
        max_length=job.packed_tokens if job.packing else None, train_sampling_strategy="sequential",
        logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(job.model),
        callbacks=[Watch(measured)],
    )  # fmt: skip
    trainer.data_collator = counting(trainer.data_collator, measured, accumulate)
    trainer.train()
    measured.notes.append("gradient checkpointing, TRL's default, is off: it would be slower")
    if job.packing:
        measured.notes.append("packing reorders the examples: neither its steps nor its losses are those of the others")
    write_result(job, measured, ["trl", "transformers", "peft", "accelerate", "datasets", "torch", "liger-kernel"])


if __name__ == "__main__":
    main()
