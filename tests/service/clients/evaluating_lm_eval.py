"""Run in lm-evaluation-harness's environment: `python evaluating_lm_eval.py URL MODEL_FOLDER TASKS_FOLDER OUT.json`."""
import json
import sys

import lm_eval
from lm_eval.tasks import TaskManager

URL, FOLDER, TASKS, OUT = sys.argv[1:]
COMPLETIONS = {"model": "tiny", "base_url": f"{URL}/v1/completions", "tokenizer": FOLDER, "num_concurrent": 2, "max_retries": 1}


def evaluated(kind, task, **more):
    """The task's results, and what was answered to each request: `[log-likelihood, greedy]`, or a text."""
    tasks = TaskManager(include_path=TASKS, include_defaults=False)
    chosen = {k: v for k, v in more.items() if k == "apply_chat_template"}
    arguments = {k: v for k, v in more.items() if k != "apply_chat_template"}
    found = lm_eval.simple_evaluate(model=kind, model_args=arguments, tasks=[task], task_manager=tasks, log_samples=True, bootstrap_iters=0, **chosen)
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    return {"results": found["results"][task], "said": [[a[0] for a in s["resps"]] for s in samples], "asked": [s["arguments"] for s in samples]}


def main():
    chat = COMPLETIONS | {"base_url": f"{URL}/v1/chat/completions", "num_concurrent": 1}
    told = {
        "tokens": evaluated("local-completions", "choices", **COMPLETIONS, tokenizer_backend="huggingface"),
        "texts": evaluated("local-completions", "choices", **COMPLETIONS, tokenizer_backend="huggingface", tokenized_requests=False),
        "found": evaluated("local-completions", "choices", **COMPLETIONS),
        "written": evaluated("local-completions", "answers", **COMPLETIONS, tokenizer_backend="huggingface"),
        "chat": evaluated("local-chat-completions", "answers", **chat, apply_chat_template=True),
    }
    with open(OUT, "w", encoding="utf-8") as file:
        json.dump(told, file)


if __name__ == "__main__":
    main()
