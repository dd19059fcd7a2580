"""``python:package.module:factory?weights=FILE``: a model that the user's own code builds."""

from __future__ import annotations

import importlib
import importlib.util

from torch import nn

from pellucid.errors import InputError, ModelError
from pellucid.models.files import reason
from pellucid.models.loaded import LoadedModel
from pellucid.models.spec import GRAMMAR, Spec, did_you_mean
from pellucid.models.weights import load_weights, read_state_dict


def load_python(spec: Spec) -> LoadedModel:
    """Import a module, call its factory without arguments, and take the nn.Module or LoadedModel that it returns.

    ``?weights=FILE`` is read without running code that it may hold, and copied into the module. ``sys.path`` is left as
    it is.

    Raises:
        InputError: the module or the factory does not exist; the text names near matches.
        FileError: the weights cannot be read, or do not fit.
        ModelError: the import or the factory failed, or something else was returned.
    """
    place, colon, name = spec.name.partition(":")
    if not colon or not place or not name.isidentifier():
        raise InputError(
            f"{spec.text!r} must name a module and a function in it, like python:package.module:factory. "
            f"A model is named as {GRAMMAR}."
        )
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None:
        raise InputError(
            f"{spec.text!r}: there is no importable module {place!r}. It is searched as Python's import does it; "
            "install it, or set PYTHONPATH to the folder that holds it."
        )
    try:
        module = importlib.import_module(place)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{spec.text!r}: importing {place} raised {type(error).__name__}: {reason(error)}.") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        what = "nothing of that name" if factory is None else f"a {type(factory).__name__}, which cannot be called"
        raise InputError(f"{spec.text!r}: {place} holds {what}{did_you_mean(name, own)}.")
    try:
        made = factory()
    except Exception as error:  # as above
        raise ModelError(f"{spec.text!r}: {name}() raised {type(error).__name__}: {reason(error)}.") from error
    if isinstance(made, nn.Module):
        made = LoadedModel(made)
    if isinstance(made, LoadedModel):
        if spec.weights is not None:
            state = read_state_dict(spec.weights, trust=spec.trust)
            load_weights(made.module, state, origin=spec.weights)
        return made
    raise ModelError(
        f"{spec.text!r}: {name}() must return a torch.nn.Module or a LoadedModel, but gave {type(made)!r}."
    )
