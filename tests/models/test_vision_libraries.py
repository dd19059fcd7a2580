from __future__ import annotations

import urllib.error

import pytest
import safetensors.torch
import torch

from pellucid.errors import FileError, InputError, ModelError
from pellucid.models import Preprocessing, load_model
from pellucid.models.labels import imagenet_names


class TestTorchvision:
    models = pytest.importorskip("torchvision.models")

    def test_random_weights_with_names_and_preprocessing(self) -> None:
        loaded = load_model("torchvision:resnet18?weights=none")
        assert loaded.class_names == imagenet_names()
        assert loaded.preprocessing == Preprocessing(
            resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
        again = load_model("torchvision:resnet18?weights=none")
        assert torch.equal(loaded.module.fc.weight, again.module.fc.weight)

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3", "fcn_resnet50", "ssdlite320_mobilenet_v3_large"])
    def test_no_backbone_is_fetched(self, name: str, monkeypatch) -> None:
        def refuse(*args: object, **kwargs: object) -> None:
            raise AssertionError("the network was asked")

        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        assert not load_model(f"torchvision:{name}?weights=none").module.training

    def test_a_file_fits_and_its_classes_are_found(self, tmp_path) -> None:
        own = self.models.squeezenet1_1(num_classes=7)
        path = tmp_path / "own.pt"
        torch.save({"state_dict": {f"module.{name}": value for name, value in own.state_dict().items()}}, path)
        loaded = load_model(f"torchvision:squeezenet1_1?weights={path}", labels=list("abcdefg"))
        x = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(loaded.module(x), own.eval()(x))
        assert loaded.class_names == tuple("abcdefg")
        assert load_model(f"torchvision:squeezenet1_1?weights={path}").class_names is None

    def test_the_librarys_own_file_brings_its_own_preprocessing(self, tmp_path) -> None:
        entry = self.models.ResNet50_Weights.IMAGENET1K_V1
        path = tmp_path / entry.url.rpartition("/")[2]
        torch.save(self.models.resnet50().state_dict(), path)
        assert load_model(f"torchvision:resnet50?weights={path}").preprocessing.resize == 256
        other = tmp_path / "other.pth"
        path.rename(other)
        assert load_model(f"torchvision:resnet50?weights={other}").preprocessing.resize == 232

    def test_auxiliary_heads_of_a_file(self, tmp_path) -> None:
        path = tmp_path / "a.safetensors"
        source = self.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
        safetensors.torch.save_file(source.state_dict(), path)
        load_model(f"torchvision:lraspp_mobilenet_v3_large?weights={path}")
        source = self.models.googlenet(weights=None, init_weights=True, aux_logits=True)
        safetensors.torch.save_file(source.state_dict(), path)
        assert load_model(f"torchvision:googlenet?weights={path}").module.aux1 is not None

    def test_a_segmentation_file_of_a_wrapped_model(self, tmp_path) -> None:
        arguments = {"weights": None, "weights_backbone": None, "aux_loss": True, "num_classes": 3}
        state = self.models.segmentation.fcn_resnet50(**arguments).state_dict()
        torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pt")
        loaded = load_model(f"torchvision:fcn_resnet50?weights={tmp_path / 'a.pt'}")
        assert loaded.module.classifier[4].out_channels == 3
        assert loaded.class_names is None

    def test_a_home_folder_is_expanded(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        torch.save(self.models.squeezenet1_1(num_classes=2).state_dict(), tmp_path / "a.pt")
        assert load_model("torchvision:squeezenet1_1?weights=~/a.pt").module.num_classes == 2

    def test_pretrained_weights_come_from_the_cache(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        entry = self.models.SqueezeNet1_1_Weights.DEFAULT
        place = tmp_path / "checkpoints" / entry.url.rpartition("/")[2]
        place.parent.mkdir()
        source = self.models.squeezenet1_1()
        torch.save(source.state_dict(), place)
        for spec in ("squeezenet1_1", "squeezenet1_1?weights=DEFAULT", "squeezenet1_1?weights=IMAGENET1K_V1"):
            loaded = load_model(f"torchvision:{spec}")
            assert torch.equal(loaded.module.classifier[1].weight, source.classifier[1].weight)
        place.write_bytes(b"PK damaged")
        with pytest.raises(FileError, match=place.name):
            load_model("torchvision:squeezenet1_1")

    def test_a_failing_download_is_one_clear_error(self, tmp_path, monkeypatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise urllib.error.URLError("no network")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
        with pytest.raises(ModelError, match=r"no network.*weights=FILE.*weights=none"):
            load_model("torchvision:resnet18")

    @pytest.mark.parametrize(
        ("spec", "kind", "said"),
        [
            ("torchvision:resnt18", InputError, "did you mean resnet18"),
            ("torchvision:resnet18?weights=missing.pt", FileError, "no file 'missing.pt'.*IMAGENET1K_V1"),
            ("torchvision:resnet18?weights=DEFAULT&classes=3", InputError, "own number of classes"),
        ],
    )
    def test_errors(self, spec: str, kind: type[Exception], said: str) -> None:
        with pytest.raises(kind, match=said):
            load_model(spec)

    def test_another_architecture_lists_differences(self, tmp_path) -> None:
        torch.save(self.models.resnet34().state_dict(), tmp_path / "a.pt")
        with pytest.raises(FileError, match=r"does not fit the model ResNet .*layer1.2.conv1.weight"):
            load_model(f"torchvision:resnet18?weights={tmp_path / 'a.pt'}")


class TestTimm:
    timm = pytest.importorskip("timm")

    def test_names_and_preprocessing_of_the_configuration(self) -> None:
        loaded = load_model("timm:vit_tiny_patch16_224?weights=none")
        assert loaded.class_names == imagenet_names()
        assert loaded.preprocessing == Preprocessing(
            resize=248, crop=224, mean=(0.5,), std=(0.5,), interpolation="bicubic"
        )
        assert load_model("timm:test_vit?weights=none&classes=11221").class_names is not None
        assert load_model("timm:test_vit?weights=none&classes=5").class_names is None

    def test_a_file_fits_and_its_classes_are_found(self, tmp_path) -> None:
        own = self.timm.create_model("test_efficientnet", num_classes=9).eval()
        path = tmp_path / "own & good.safetensors"
        safetensors.torch.save_file(own.state_dict(), path)
        loaded = load_model(f"timm:test_efficientnet?weights={path}")
        x = torch.rand(1, 3, 160, 160)
        with torch.no_grad():
            assert torch.equal(loaded.module(x), own(x))
        assert loaded.class_names is None
        with pytest.raises(FileError, match="of another shape"):
            load_model(f"timm:test_efficientnet?weights={path}&classes=4")

    def test_a_failing_download_is_one_clear_error(self, monkeypatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise OSError("no network")

        monkeypatch.setattr(self.timm, "create_model", fail)
        with pytest.raises(ModelError, match=r"no network.*weights=FILE.*weights=none"):
            load_model("timm:test_vit")

    @pytest.mark.parametrize(
        ("spec", "kind", "said"),
        [
            ("timm:resnt18", InputError, "did you mean resnet18"),
            ("timm:resnet18.nonsense", InputError, "resnet18.a1_in1k"),
            ("timm:test_vit?weights=missing.pt", FileError, "no file 'missing.pt'"),
        ],
    )
    def test_errors(self, spec: str, kind: type[Exception], said: str) -> None:
        with pytest.raises(kind, match=said):
            load_model(spec)
