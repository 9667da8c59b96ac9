"""Conversations as marked text, for clients that put one together themselves and then ask /tokenize for its tokens.

The templates are for jinja2, with `messages`, `bos_token` and `eos_token`. What they give and `encode_marked` reads has
the tokens of `chat_template.encode_chat`. Here text *can* forge a control token; a generation route never reads marks.
"""

import re

from mixtralkit.tokenizer import Tokenizer

_MARKS = ("[INST]", "[/INST]")
_BEGINNING = (
    "{% set has_system = messages and messages[0]['role'] == 'system' %}"
    "{% set turns = messages[1:] if has_system else messages %}"
    "{% set system = messages[0]['content'] + '\\n\\n' if has_system and messages[0]['content'] else '' %}"
    "{{ bos_token }}{% for turn in turns %}{% if turn['role'] == 'user' %}"
)
TEMPLATE_V1 = (
    _BEGINNING
    + "[INST] {% if loop.first %}{{ system }}{% endif %}{{ turn['content'] }} [/INST]"
    + "{% else %} {{ turn['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
TEMPLATE_V3 = (
    _BEGINNING
    + "[INST]{% if loop.last %}{{ system }}{% endif %}{{ turn['content'] }}[/INST]"
    + "{% else %}{{ turn['content'].rstrip(' ') }}{{ eos_token }}{% endif %}{% endfor %}"
)


def encode_marked(text: str, tokenizer: Tokenizer, *, bos: bool) -> list[int]:
    """The ids of `text`, in which the names of control tokens stand for these; "<s>" alone is the BOS id.

    With `bos` there is a BOS id before it, unless the text begins with one. Raises `TokenizerError` as `encode` does.
    """
    names = [tokenizer.piece(tokenizer.bos_id), tokenizer.piece(tokenizer.eos_id), *_MARKS]
    controls = {name: token for name in names if (token := tokenizer.control_id(name)) is not None}
    ids: list[int] = []
    for part in re.split("(" + "|".join(map(re.escape, controls)) + ")", text):
        ids += [controls[part]] if part in controls else tokenizer.encode(part, bos=False)
    return [tokenizer.bos_id, *ids] if bos and ids[:1] != [tokenizer.bos_id] else ids
