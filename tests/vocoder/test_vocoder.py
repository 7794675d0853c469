"""The one interface, and the table behind `load_vocoder`."""

import json

import pytest
import torch

from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig
from vcvae.vocoder import GriffinLim, HiFiGAN, HiFiGANConfig, SourceFilterVocoder, Vocoder, load_vocoder


@pytest.fixture
def checkpoint(tmp_path):
    """A small HiFi-GAN with random weights."""
    config = HiFiGANConfig(upsample_initial_channel=16)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    torch.save({"generator": HiFiGAN(config).state_dict()}, tmp_path / "g_00000001")
    return tmp_path


def test_vocoders_have_one_interface(checkpoint):
    mel = MelConfig()
    kinds = {
        None: SourceFilterVocoder,
        "source-filter": SourceFilterVocoder,
        "griffin-lim": GriffinLim,
        f"hifigan:{checkpoint}": HiFiGAN,
    }
    for name, kind in kinds.items():
        vocoder = load_vocoder(name, mel)
        assert isinstance(vocoder, Vocoder)
        assert isinstance(vocoder, kind)
        assert vocoder.mel_config == mel
        samples = vocoder(torch.randn(2, 80, 5))
        assert samples.shape == (2, 5 * 256)
        assert samples.dtype == torch.float32
        f0 = F0Contour(torch.full((2, 3), 7.0), torch.ones(2, 3))
        assert vocoder.synthesize(torch.randn(2, 80, 5), f0).shape == samples.shape


def test_griffin_lim_takes_any_mel():
    mel = MelConfig(sample_rate=16000, hop=200, n_mels=60, f_max=7000)
    vocoder = load_vocoder("griffin-lim", mel)
    assert vocoder.mel_config == mel
    assert vocoder(torch.zeros(1, 60, 7)).shape == (1, 1400)


@pytest.mark.parametrize("name", ["", "hifi-gan:x", "hifigan", "hifigan:", "griffin-lim:x", "Griffin-Lim"])
def test_load_vocoder_lists_the_choices_for_an_unknown_name(name):
    with pytest.raises(VcvaeError, match=rf"^there is no vocoder '{name}'; give source-filter, "):
        load_vocoder(name, MelConfig())


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("sampling_rate", 24000, "sample_rate"),
        ("n_fft", 2048, "n_fft"),
        ("win_size", 800, "window"),
        ("fmin", 80, "f_min"),
        ("fmax", None, "f_max"),
    ],
)
def test_load_vocoder_refuses_another_mel_by_field(checkpoint, key, value, field):
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(VcvaeError, match=rf"the mel of the vocoder hifigan:.* differ in '{field}' \("):
        load_vocoder(f"hifigan:{checkpoint}", MelConfig())


@pytest.mark.parametrize("change", [{"hop": 200}, {"n_mels": 100}, {"floor": 1e-7}])
def test_load_vocoder_names_any_field_in_which_the_mels_differ(checkpoint, change):
    with pytest.raises(VcvaeError, match=rf"differ in '{next(iter(change))}' \("):
        load_vocoder(f"hifigan:{checkpoint}", MelConfig(**change))
