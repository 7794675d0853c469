"""BigVGAN: a small stand-in for the authors' package, with their interface and format of files."""

import json
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.vocoder.adapters.checkpoints import DAMAGES, HIFIGAN_MEL, damage
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.vocoder.adapters.bigvgan import BigVGAN

CONFIG = {  # that of nvidia/bigvgan_v2_22khz_80band_fmax8k_256x, with a smaller network
    "resblock": "1",
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "upsample_initial_channel": 64,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
    "activation": "snakebeta",
    "snake_logscale": True,
    "learning_rate": 0.0001,
    **HIFIGAN_MEL,
}


class Generator(nn.Module):
    """As the package's, as far as its interface goes: a linear interpolation of a convolution of the mel."""

    def __init__(self, h: dict, use_cuda_kernel: bool = False) -> None:
        super().__init__()
        assert not use_cuda_kernel
        warnings.warn("weight_norm is deprecated", FutureWarning, stacklevel=1)
        self.h = h
        self.conv_pre = nn.utils.weight_norm(nn.Conv1d(h["num_mels"], 1, 7, padding=3))

    def forward(self, mel: Tensor) -> Tensor:
        return torch.tanh(nn.functional.interpolate(self.conv_pre(mel), scale_factor=self.h["hop_size"], mode="linear"))

    def remove_weight_norm(self) -> None:
        print("Removing weight norm...")
        nn.utils.remove_weight_norm(self.conv_pre)


def package(generator: type[nn.Module] = Generator) -> types.ModuleType:
    module = types.ModuleType("bigvgan")
    module.BigVGAN = generator
    module.load_hparams_from_json = lambda path: json.loads(Path(path).read_text())
    return module


@pytest.fixture
def _package(monkeypatch):
    monkeypatch.setitem(sys.modules, "bigvgan", package())


@pytest.fixture
def original() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return Generator(CONFIG)


def write(folder: Path, config: dict, state: dict[str, Tensor]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"generator": state}, folder / "bigvgan_generator.pt")
    return folder


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("folded", [False, True])
def test_bigvgan_gives_what_the_package_gives(tmp_path, original, folded, capsys, recwarn):
    mel = torch.randn(2, 80, 9)
    with torch.no_grad():
        expected = original(mel)[:, 0]
        if folded:
            nn.utils.remove_weight_norm(original.conv_pre)
        model = BigVGAN.load(write(tmp_path, CONFIG, original.state_dict()))
        torch.testing.assert_close(model(mel), expected, rtol=0, atol=1e-5)
    assert expected.shape == (2, 9 * 256)
    assert not model.training
    assert not any(name.endswith(("weight_g", "weight_v")) for name in model.state_dict())
    assert not capsys.readouterr().out
    assert not recwarn.list


@pytest.mark.usefixtures("_package")
def test_bigvgan_mel_is_that_of_the_config(tmp_path, original):
    assert BigVGAN.load(write(tmp_path, CONFIG, original.state_dict())).mel_config == MelConfig()
    config = {**CONFIG, "fmax": None, "fmin": 30, "sampling_rate": 24000}
    mel = BigVGAN.load(write(tmp_path, config, original.state_dict())).mel_config
    assert mel == MelConfig(sample_rate=24000, f_min=30, f_max=12000)


@pytest.mark.parametrize("installed", [False, True])
def test_bigvgan_names_the_package_that_is_not_installed(tmp_path, original, monkeypatch, installed):
    monkeypatch.setitem(sys.modules, "bigvgan", package() if installed else None)
    write(tmp_path, CONFIG, original.state_dict())
    if installed:
        BigVGAN.load(tmp_path)
    else:
        with pytest.raises(VcvaeError, match=r"BigVGAN's own package is needed \(.*\); pip install bigvgan\.$"):
            BigVGAN.load(tmp_path)


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": None}, r"config.json: not a config of BigVGAN, as it has no 'activation'"),
        ({"activation": "relu"}, r"config.json: 'activation' is wrong"),
        ({"hop_size": 300}, r"config.json: 'upsample_rates' multiply to 256 and 'hop_size' is 300"),
        ({"fmax": 12000}, r"the mel in the config.json of this BigVGAN: .*f_max not above half the sample rate"),
        ({"num_mels": 100}, r"generator.pt: 'conv_pre.weight' is \(1, 80, 7\) here and \(1, 100, 7\) by config.json"),
    ],
)
def test_bigvgan_names_a_wrong_config(tmp_path, original, change, message):
    config = {key: value for key, value in {**CONFIG, **change}.items() if value is not None}
    with pytest.raises(VcvaeError, match=message):
        BigVGAN.load(write(tmp_path, config, original.state_dict()))


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("kind", DAMAGES)
def test_bigvgan_refuses_a_file_that_is_no_generator(tmp_path, original, kind):
    damage(write(tmp_path, CONFIG, original.state_dict()) / "bigvgan_generator.pt", kind)
    with pytest.raises(VcvaeError, match=r"bigvgan_generator.pt: not a BigVGAN generator"):
        BigVGAN.load(tmp_path)


@pytest.mark.usefixtures("_package")
def test_bigvgan_names_a_missing_file(tmp_path, original):
    with pytest.raises(VcvaeError, match=r"absent: neither a folder nor a repository"):
        BigVGAN.load(tmp_path / "absent")
    with pytest.raises(
        VcvaeError, match=r"no config.json in this folder; give a BigVGAN checkpoint, config.json and b"
    ):
        BigVGAN.load(tmp_path)
    path = write(tmp_path, CONFIG, original.state_dict()) / "bigvgan_generator.pt"
    torch.save(original.state_dict(), path)
    with pytest.raises(VcvaeError, match=r"bigvgan_generator.pt: not a BigVGAN generator; it should hold the authors'"):
        BigVGAN.load(tmp_path)
    path.unlink()
    with pytest.raises(VcvaeError, match=r"no bigvgan_generator.pt in this folder"):
        BigVGAN.load(tmp_path)
