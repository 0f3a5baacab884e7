"""lm-evaluation-harness against the server: its log-likelihoods are those that the model itself gives, worked out here with torch."""
import json
from pathlib import Path

import pytest
from running import ADMIN_KEY

from installed import python_of, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # the first time, 84 packages are installed
EVALUATING = Path(__file__).with_name("evaluating_lm_eval.py")
DOCS = [  # parts of characters are tokens of this model, and in some places the likeliest ones
    {"q": "What is the capital?", "choices": ["Basel", "Oslo or Bern", "Zürich"], "gold": 0},
    {"q": "How many people live in", "choices": ["the city", "日本", "🙂 the"], "gold": 1},
]
CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_target: gold
doc_to_choice: choices
metric_list: [{{metric: acc}}]
"""
ANSWERS = """
task: answers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["zzz"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def by_chat(client):
    """What the official client is answered to each question."""
    return [
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": doc["q"]}], temperature=0, max_tokens=12).choices[0].message.content
        for doc in DOCS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def told(relay, tiny_model, by_chat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    answers = [{"q": doc["q"], "a": answer} for doc, answer in zip(DOCS, [by_chat[0], "something else"], strict=True)]
    (folder / "choices.yaml").write_text(CHOICES.format(path=jsonl(folder / "choices.jsonl", DOCS)), encoding="utf-8")
    (folder / "answers.yaml").write_text(ANSWERS.format(path=jsonl(folder / "answers.jsonl", answers)), encoding="utf-8")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "TOKENIZERS_PARALLELISM": "false"}
    run(python_of("lm_eval"), str(EVALUATING), relay.url, str(tiny_model), str(folder), str(folder / "out.json"), OPENAI_API_KEY=ADMIN_KEY, **offline)
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def expected(tiny_model):
    """Log-likelihood of each choice after its question, and whether it is what greedy decoding would say."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), AutoTokenizer.from_pretrained(tiny_model)

    def of(question, choice):
        whole = tokenizer(f"{question} {choice}", add_special_tokens=False)["input_ids"]
        n = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        steps = [(logprobs_TV[i - 1, whole[i]].item(), logprobs_TV[i - 1].argmax().item() == whole[i]) for i in range(n, len(whole))]
        return sum(logprob for logprob, _ in steps), all(greedy for _, greedy in steps)

    return [[of(doc["q"], choice) for choice in doc["choices"]] for doc in DOCS]


@pytest.mark.parametrize("way", ["tokens", "texts", "found"])
def test_log_likelihoods_are_the_models_own(told, expected, way):
    for said, right in zip(told[way]["said"], expected, strict=True):
        assert [logprob for logprob, _ in said] == pytest.approx([logprob for logprob, _ in right], rel=2e-3)  # the engine computes in bfloat16
        assert [greedy for _, greedy in said] == [greedy for _, greedy in right]
    best = [max(range(3), key=lambda i, right=right: right[i][0]) for right in expected]
    assert told[way]["results"]["acc,none"] == sum(b == doc["gold"] for b, doc in zip(best, DOCS, strict=True)) / 2


def test_answers_are_those_of_the_official_client(told, by_chat, client):
    assert [said[0] for said in told["chat"]["said"]] == by_chat
    assert told["chat"]["results"]["exact_match,none"] == 0.5
    plain = [client.completions.create(model="tiny", prompt=doc["q"], max_tokens=12, temperature=0).choices[0].text for doc in DOCS]
    assert [said[0] for said in told["written"]["said"]] == plain


def test_the_way_of_tokens_that_it_finds_out_is_answered_fast(told, relay):
    """It asks for a tokenizer over HTTP first, and takes the folder's where there is none."""
    assert "GET /tokenizer_info" in relay.paths
