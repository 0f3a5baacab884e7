"""`python tests/unit/data/golden/write.py`: fill in tokens and weights of the golden files from their pieces.

The pieces are written by hand, from what is published of each family's format: text, and whether it is trained. Only run this
after a change of pieces or of the tokenizer; a test holds the renderer to what is written.
"""
import json
from pathlib import Path

from tokenizers import Tokenizer

FOLDER = Path(__file__).parent


def filled(example: dict, tokenizer: Tokenizer) -> dict:
    pieces = [(text, trained, tokenizer.encode(text, add_special_tokens=False).ids) for text, trained in example["pieces"]]
    return {
        "pieces": example["pieces"],
        "tokens": " ".join(str(token) for _, _, ids in pieces for token in ids),
        "weights": "".join(str(trained) * len(ids) for _, trained, ids in pieces),
    }


def main() -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for file in FOLDER.glob("*.golden.json"):
        cases = json.loads(file.read_text(encoding="utf-8"))
        done = {name: [filled(e, tokenizer) for e in examples] if isinstance(examples, list) else examples for name, examples in cases.items()}
        file.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
