"""Words: which tokens of a text belong together, told by the tokenizer of the model."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.engine.point import Point
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["words_at"]

_HALF = "\ufffd"
"""What is written for a part of a character's bytes."""


def words_at(call: Call, owner: Point, value: Tensor) -> Tensor:
    """The word of every token, (N, L), numbered from 0 in each text; -1 for special tokens.

    A word begins at a space that the tokenizer writes before a token, at a punctuation mark and behind it, and after a
    special token. Look-ups of other ids for the same tokens (segments, positions), and values with a vector for each
    of them, have the words of the text.

    Args:
        call: what is explained.
        owner: the input or layer.
        value: there, (N, L, ...).

    Raises:
        InputError: nothing tells the words.
    """
    tokenizer, ids = call.tokenizer, _text(call)
    other = owner.name.endswith("input_ids") and ids is not None and ids is not call.prepared.ids.get(owner.name)
    if tokenizer is None or ids is None or other or value.shape[:2] != ids.shape:
        raise InputError(
            f"features='words': nothing tells which tokens of the {owner} make a word. Load the model with its "
            "tokenizer (pellucid.load_model('hf:...')) and explain its token ids, or give the word of every token as "
            "numbers, such as features=encoding.word_ids(0), None being never taken away. features='tokens' takes "
            "every token for itself."
        )
    kept = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, tokenizer.mask_token_id}
    return torch.tensor([_numbered(tokenizer, row, kept) for row in ids.tolist()], device=value.device)


def _text(call: Call) -> Tensor | None:
    """The token ids that the tokenizer wrote: those of its name, or the only ones."""
    ids = call.prepared.ids
    named = [name for name in getattr(call.tokenizer, "model_input_names", ()) if name in ids]
    return ids[named[0]] if named else next(iter(ids.values())) if len(ids) == 1 else None


def _numbered(tokenizer: Any, row: Sequence[int], kept: set[int]) -> list[int]:
    """The word of each token of a text; -1 for the tokens ``kept``."""
    found: list[int] = []
    word = -1
    before: list[int] = []  # the tokens of the word before, and of this one: how a token is written depends on these
    own = 0
    text = ""
    for token in row:
        if token in kept:
            found.append(-1)
            before, own, text = [], 0, ""
            continue
        whole = _written(tokenizer, [*before, token])
        if not before or _parted(text, whole[len(text) :]):
            word += 1
            before, own = [*before[own:], token], len(before) - own
            text = _written(tokenizer, before)
        else:
            before, text = [*before, token], whole
        found.append(word)
    return found


def _parted(text: str, added: str) -> bool:
    """Whether a word ends between what was written and what a token adds; not where that is half a character."""
    last, first = text[-1:], added[:1]
    if first.isspace():
        return True
    return bool(last and first) and _HALF not in (last, first) and (_is_sign(last) or _is_sign(first))


def _is_sign(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _written(tokenizer: Any, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
