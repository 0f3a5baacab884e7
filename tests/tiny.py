"""Complete model folders that are small enough for unit tests: real architectures and tokenizers, random weights."""
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3")
WINDOW = 24  # tokens; the sliding window of the families that have one

CHATML = (
    "{% if tools %}<|im_start|>system\nTools:\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Gemma 1: no system role, the assistant is called "model", roles must alternate.
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# As templates of reasoning models: earlier answers lose what stands before </think>.
REWRITES_HISTORY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if loop.last or m.role != 'assistant' else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A template that takes a system message and says nothing of it.
DROPS_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A template that never ends a turn.
NO_END = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"

_TEXT = [
    "MATCH (p:Person)-[:KNOWS]->(f:Person) WHERE p.name = 'Ada' RETURN f.name LIMIT 10",
    "How many people live in the city of Basel? Return the number of people.",
    "What is the capital of the country with the most rivers? The system answers the user's question with a query.",
    "<|im_start|>user\nassistant\nsystem\ntool\n",
]


def make_tiny_tokenizer(vocab: int = 384, template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A real byte-level BPE tokenizer; every text can be encoded and decoded without loss."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=vocab, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|endoftext|>", pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = template
    return fast


def _config(
    family: str, vocab: int, context: int, layers: int, window: int, hidden: int, ids: dict[str, int | list[int]]
) -> PretrainedConfig:
    shared = {
        "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": context, **ids,
    }  # fmt: skip
    match family:
        case "llama":
            return LlamaConfig(**shared)
        case "llama-wide":  # heads that the kernels in C take
            return LlamaConfig(**shared, head_dim=32)
        case "llama3":  # positions as from 3.1 on
            scaled = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            return LlamaConfig(**shared, rope_parameters=scaled | {"rope_theta": 500_000.0, "original_max_position_embeddings": context // 4})
        case "mistral":
            return MistralConfig(**shared, sliding_window=None, head_dim=hidden // 4)
        case "qwen2":
            return Qwen2Config(**shared)
        case "qwen3":
            return Qwen3Config(**shared, head_dim=hidden // 4)
        case "phi3":
            return Phi3Config(**shared, sliding_window=window, original_max_position_embeddings=context)
        case "phi3-long":  # of the 128k models: other rotations where a text is longer than the original context
            factors = {"short_factor": [1.0, 1.05, 1.1, 1.2], "long_factor": [1.1, 1.5, 2.5, 4.0], "rope_theta": 10_000.0}
            original = context // 2
            rotations = {"rope_type": "longrope", "original_max_position_embeddings": original, **factors}
            return Phi3Config(**shared, sliding_window=window, original_max_position_embeddings=original, rope_parameters=rotations)
        case "gemma2":
            return Gemma2Config(
                **shared, head_dim=hidden // 4, query_pre_attn_scalar=hidden // 4, sliding_window=window,
                attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
            )  # fmt: skip
        case "gemma3":
            return Gemma3TextConfig(**shared, head_dim=hidden // 4, query_pre_attn_scalar=hidden // 4, sliding_window=window)
    raise ValueError(family)


def make_tiny_model(
    folder: Path, family: str = "llama", *, seed: int = 0, vocab: int = 384, context: int = 512, layers: int = 2, hidden: int = 32,
    window: int = WINDOW, template: str | None = CHATML, tokenizer: PreTrainedTokenizerFast | None = None, stops: Sequence[str] = ("<|im_end|>",),
) -> Path:  # fmt: skip
    """Write a whole model folder of `family`: config, float32 weights, tokenizer, chat template."""
    tokenizer = tokenizer or make_tiny_tokenizer(vocab, template)
    stop_ids = [tokenizer.convert_tokens_to_ids(s) for s in stops]
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": stop_ids if len(stops) > 1 else stop_ids[0], "pad_token_id": tokenizer.pad_token_id}
    config = _config(family, len(tokenizer), context, layers, window, hidden, ids)
    torch.manual_seed(seed)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    with torch.no_grad():  # the usual initialisation is so close to zero that every answer would be the same token
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                embedded = 0.15 if family.startswith("gemma") else 1.0  # Gemma scales embeddings up itself
                parameter.normal_(0, embedded if "embed" in name else parameter.shape[1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_encoder(folder: Path, *, seed: int = 0, context: int = 64) -> Path:
    """Write a sentence encoder's folder: a BertModel and a tokenizer."""
    tokenizer = make_tiny_tokenizer(template=None)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=context, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
