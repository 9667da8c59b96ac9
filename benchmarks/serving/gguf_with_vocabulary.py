"""Writes the shape with random weights and a vocabulary for llama.cpp: `python gguf_with_vocabulary.py PIECES FILE`.

Needs gguf and numpy, and runs in a Python that has them.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from gguf import GGUFWriter
from write_gguf import write


def main(pieces: Path, file: Path) -> None:
    """Write the file in bf16."""
    texts, scores, kinds = zip(*json.loads(pieces.read_text(encoding="utf-8")), strict=True)

    def vocabulary(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([text.encode("utf-8") for text in texts])
        writer.add_token_scores(list(scores))
        writer.add_token_types(list(kinds))
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)

    part = file.with_suffix(".part")
    write(part, "bf16", vocabulary)
    part.rename(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
