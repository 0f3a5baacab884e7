"""The families of models that the catalogue can tune: their chat templates and tiny models of their architectures.

A template (`unit/data/golden/*.jinja`) has the published one's structure: its marks, where spaces and line breaks stand, how calls
are written, what earlier turns lose. Written by us; words that explain tools to a model are shortened.
"""
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from feinschliff.core.chat import FunctionCall, Message, ToolCall, assistant, system, user
from tiny import make_tiny_model

GOLDEN = Path(__file__).parent / "unit" / "data" / "golden"
TOKENIZER = GOLDEN / "tokenizer.json"  # a small byte-level one that has the marks of all families


@dataclass(frozen=True, slots=True)
class Family:
    """`stops` end an answer; `catalogue` are names of the catalogue's chat_template that it stands for."""

    template: str  # without .jinja
    architecture: str  # of tiny.py
    bos: str
    eos: str
    stops: tuple[str, ...]

    @property
    def source(self) -> str:
        return (GOLDEN / f"{self.template}.jinja").read_text(encoding="utf-8")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        fast = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_file(str(TOKENIZER)), bos_token=self.bos, eos_token=self.eos, pad_token="<|endoftext|>",
            clean_up_tokenization_spaces=False,
        )  # fmt: skip
        fast.chat_template = self.source
        return fast

    def make_model(self, folder: Path) -> Path:
        """A whole model folder with random weights."""
        return make_tiny_model(folder, self.architecture, tokenizer=self.tokenizer(), stops=self.stops)


LLAMA_3_STOPS = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
FAMILIES = {
    "SmolLM2": Family("smollm2", "llama", "<|im_start|>", "<|im_end|>", ("<|im_end|>",)),
    "Qwen 2.5": Family("qwen2.5", "qwen2", "<|endoftext|>", "<|im_end|>", ("<|im_end|>", "<|endoftext|>")),
    "Qwen 3": Family("qwen3", "qwen3", "<|endoftext|>", "<|im_end|>", ("<|im_end|>", "<|endoftext|>")),
    "Llama 2": Family("llama-2", "llama", "<s>", "</s>", ("</s>",)),
    "Llama 3.1": Family("llama-3.1", "llama3", "<|begin_of_text|>", "<|eot_id|>", LLAMA_3_STOPS),
    "Phi-3": Family("phi-3", "phi3", "<s>", "<|endoftext|>", ("<|end|>", "<|endoftext|>")),
    "Phi-3 128k": Family("phi-3", "phi3-long", "<s>", "<|endoftext|>", ("<|end|>", "<|endoftext|>")),
    "Gemma 3": Family("gemma-3", "gemma3", "<bos>", "<eos>", ("<end_of_turn>", "<eos>")),
    "Mistral 0.3": Family("mistral-0.3", "mistral", "<s>", "</s>", ("</s>",)),
}

TOOL = {
    "type": "function",
    "function": {"name": "capital", "description": "Of a country", "parameters": {"type": "object", "properties": {"of": {"type": "string"}}}},
}
CALL = ToolCall(id="abcd12345", function=FunctionCall(name="capital", arguments='{"of": "Chad"}'))
CONVERSATIONS = {
    "without system": (user("How many people live in Basel?"), assistant("RETURN 10")),
    "several turns": (
        system("Answer with a query."), user("People in Bern?"), assistant("RETURN 1"), user("And in Chur?"), assistant("RETURN 2"),
    ),
    "tool call": (
        user("The capital of Chad?"), Message(role="assistant", tool_calls=(CALL,)),
        Message(role="tool", content="N'Djamena", tool_call_id=CALL.id, name="capital"), assistant("It is N'Djamena."),
    ),
}  # fmt: skip
