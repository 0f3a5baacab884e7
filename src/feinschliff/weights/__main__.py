"""Turn a GGUF file (weights as a package carries them) into a folder with config.json, model.safetensors, tokenizer.json.

Run once per model; the caller caches the folder. The folder is written under a temporary name and renamed when
complete, so a kill leaves nothing that looks finished.
"""
import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, out: Path) -> None:
    """Dequantise `gguf` to float32 and write a model folder at `out`.

    Tied output embeddings are stored once, as transformers does. The chat template and the special tokens
    come from the GGUF's metadata.
    """
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    assert tokenizer is not None  # its type allows for models without one
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    # Not save_pretrained: transformers refuses to save a model that came from a quantised file.
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config.update(architectures=[type(model).__name__], dtype="float32", _name_or_path="")
    (partial / "config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")
    model.generation_config.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.replace(partial, out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
