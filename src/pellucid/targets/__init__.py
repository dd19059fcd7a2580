"""What is explained: one grammar of targets for every method, in Python and on the command line.

    285                    the logit of class 285
    tabby, "tiger cat"     the same by name; synonyms between commas match too
    a~b                    the margin: class a minus class b
    a~rest                 class a minus the softmax-weighted mean of the others, the weights held constant
    top, top~rest          the class on top of each sample
    0.5*x - y              a linear combination
    layer4.1.conv2:12      channel 12 of a layer, averaged over positions; ``blocks.3:7@-1`` at one position
    1234@-1                class (token) 1234 at the last position of a sequence; ``15@10,20`` at a pixel
    15@mask, 15@all        class 15 summed over the positions where it is on top, or over all of them
    output                 the output of a model that returns one number per sample

``pellucid.targets.grammar`` has the exact rules, ``pellucid.targets.layout`` says which dimension holds the classes.
Targets are values: ``Logit(285) - 0.5 * Rest("tabby")`` is one too, prints as a string of the grammar, and compares.
"""

from __future__ import annotations

from pellucid.targets.base import Combination as Combination
from pellucid.targets.base import PerSample as PerSample
from pellucid.targets.base import Target as Target
from pellucid.targets.classes import TOP as TOP
from pellucid.targets.classes import Logit as Logit
from pellucid.targets.classes import Margin as Margin
from pellucid.targets.classes import Rest as Rest
from pellucid.targets.resolve import Default as Default
from pellucid.targets.resolve import TargetSpec as TargetSpec
from pellucid.targets.resolve import default_target as default_target
from pellucid.targets.resolve import parse_target as parse_target
from pellucid.targets.resolve import resolve_targets as resolve_targets
from pellucid.targets.single import Function as Function
from pellucid.targets.single import Output as Output
from pellucid.targets.single import Unit as Unit
from pellucid.targets.single import raw as raw

__all__ = [
    "TOP",
    "Combination",
    "Default",
    "Function",
    "Logit",
    "Margin",
    "Output",
    "PerSample",
    "Rest",
    "Target",
    "TargetSpec",
    "Unit",
    "default_target",
    "parse_target",
    "raw",
    "resolve_targets",
]
