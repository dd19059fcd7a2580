"""``hf:FOLDER`` and ``hf:HUB_NAME``: models of transformers, with tokenizer or image processor."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.errors import FileError, InputError, ModelError, require
from pellucid.models.files import reason
from pellucid.models.image_processor import preprocessing_of
from pellucid.models.loaded import LoadedModel
from pellucid.models.sentence_encoder import as_sentence_encoder
from pellucid.models.spec import Spec

logger = logging.getLogger(__name__)

NAMED_CLASSES = ("Classification", "Segmentation", "ObjectDetection")
WORDS = ("CausalLM", "LMHeadModel", "MaskedLM", "ConditionalGeneration", "Seq2SeqLM")
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")


def load_transformers(spec: Spec) -> LoadedModel:
    """Load ``hf:NAME``: a folder, an installed package that carries a model folder, or a name on the hub.

    The class is the one that the configuration names as its architecture. A sentence encoder (``modules.json``) comes
    with its pooling. Class names are the configuration's, or the vocabulary of a language model.

    Raises:
        FileError: the folder holds no model or a broken one.
        ModelError: unknown architecture, code of the model's own without ``trust``, or nothing to be had from the hub.
    """
    transformers = require("transformers", extra="text", caller=repr(spec.text))
    folder = _folder(spec)
    place = str(folder) if folder is not None else spec.name
    options: dict[str, Any] = {"local_files_only": folder is not None, "trust_remote_code": spec.trust}
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(place, **options)
            made = _model_class(transformers, config, spec).from_pretrained(
                place, config=config, weights_only=not spec.trust, output_loading_info=True, **options
            )
        except ModelError:
            raise
        except Exception as error:  # of many kinds: hub, JSON, safetensors, architecture
            raise _failure(spec, folder, error) from error
        tokenizer = _part((transformers.AutoTokenizer,), place, folder, TEXT_FILES, options)
        readers = (transformers.AutoImageProcessor, transformers.AutoFeatureExtractor)
        processor = _part(readers, place, folder, ("preprocessor_config.json",), options)
    module, info = made
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        logger.warning("%s: %d tensors are not in its file and are random: %s", spec.text, len(names), names[:4])
    module = module.eval()
    if folder is not None:
        module = as_sentence_encoder(module, folder)
    names_of_classes = _class_names(config, tokenizer)
    preprocessing = preprocessing_of(processor) if hasattr(processor, "image_mean") else None
    return LoadedModel(module, names_of_classes, preprocessing, tokenizer=tokenizer, processor=processor)


def _folder(spec: Spec) -> Path | None:
    spec.without_options()
    path = Path(spec.name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileError(
                f"{spec.text!r}: the folder must hold a model as transformers saves it, but has no config.json."
            )
        return path
    if path.exists():
        raise FileError(f"{spec.text!r} must name a folder with a model as transformers saves it, but is a file.")
    if spec.name.isidentifier():
        package = importlib.util.find_spec(spec.name) if spec.name != "__main__" else None
        for root in (package.submodule_search_locations or ()) if package is not None else ():
            for candidate in (Path(root), Path(root) / "model"):
                if (candidate / "config.json").is_file():
                    return candidate
    if spec.name.startswith((".", "/", "~")) or spec.name.count("/") > 1 or "\\" in spec.name:
        raise FileError(f"{spec.text!r}: there is no folder {spec.name!r}.")
    return None


def _named_architecture(config: Any) -> str | None:
    architectures: Sequence[str] | None = getattr(config, "architectures", None)
    return architectures[0] if architectures else None


def _model_class(transformers: Any, config: Any, spec: Spec) -> Any:
    name = _named_architecture(config)
    if name is None:
        return transformers.AutoModel
    own_code: dict[str, str] = getattr(config, "auto_map", None) or {}
    for auto, reference in own_code.items():
        if reference.rpartition(".")[2] == name and hasattr(transformers, auto):
            if not spec.trust:
                raise _own_code(spec, reference)
            return getattr(transformers, auto)
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(
            f"{spec.text!r}: transformers {transformers.__version__} has no model class {name!r} of config.json. "
            "Install a version that has it."
        )
    return found


def _own_code(spec: Spec, reference: str) -> ModelError:
    return ModelError(
        f"{spec.text!r} comes with Python code of its own ({reference}), which is not run. If you trust where it comes "
        "from, pass trust=True (--trust)."
    )


def _part(
    readers: Sequence[Any], place: str, folder: Path | None, files: Sequence[str], options: dict[str, Any]
) -> Any:
    """Load the tokenizer or processor with the first reader that can; the model also works without one."""
    if folder is not None and not any((folder / file).is_file() for file in files):
        return None
    errors = []
    for reader in readers:
        try:
            return reader.from_pretrained(place, **options)
        except Exception as error:  # of many kinds, and not fatal
            errors.append(f"{reader.__name__}: {reason(error)[:200]}")
    logger.log(logging.DEBUG if folder is None else logging.WARNING, "%s: not loaded: %s", place, "; ".join(errors))
    return None


def _failure(spec: Spec, folder: Path | None, error: Exception) -> InputError | ModelError:
    text = reason(error)[:300]
    if "trust_remote_code" in str(error) and not spec.trust:
        return _own_code(spec, "its config.json names it")
    if folder is not None:
        return FileError(f"{spec.text!r}: the model in {folder} could not be loaded: {type(error).__name__}: {text}.")
    return ModelError(
        f"{spec.text!r}: there is no folder {spec.name!r}, and as a name on the hub it cannot be loaded: {text}. Name "
        "a folder with config.json and weights, or load it once where there is a network."
    )


def _class_names(config: Any, tokenizer: Any) -> tuple[str, ...] | None:
    architecture = _named_architecture(config) or ""
    if any(word in architecture for word in NAMED_CLASSES):
        names: dict[int, str] = getattr(config, "id2label", None) or {}
        return (
            tuple(str(names[index]) for index in range(len(names))) if sorted(names) == [*range(len(names))] else None
        )
    size = getattr(config.get_text_config(), "vocab_size", None)
    if tokenizer is None or not size or not architecture.endswith(WORDS):
        return None
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    return (*(str(token) for token in tokens), *(f"[unused {index}]" for index in range(len(tokens), size)))


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Switch transformers' progress bars off for a while: a library that draws on the terminal spoils other output."""
    switch = transformers.utils.logging
    enabled = switch.is_progress_bar_enabled()
    switch.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            switch.enable_progress_bar()
