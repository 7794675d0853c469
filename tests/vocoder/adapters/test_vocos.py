"""Vocos: checkpoints in the authors' format, written here at random, and the authors' network where it is installed."""

import copy
from pathlib import Path

import pytest
import torch
import torchaudio
import yaml
from torch import Tensor
from torch.nn import functional as F

from tests.vocoder.adapters.checkpoints import DAMAGES, damage
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.vocoder.adapters.vocos import ISTFTHead, Vocos
from vcvae.vocoder.adapters.vocos_config import HeadConfig, VocosConfig

CONFIG = {  # that of BSC-LT/vocos-mel-22khz, with a smaller network
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {
            "sample_rate": 22050,
            "n_fft": 1024,
            "hop_length": 256,
            "n_mels": 80,
            "padding": "same",
            "f_min": 0,
            "f_max": 8000,
            "norm": "slaney",
            "mel_scale": "slaney",
        },
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 80, "dim": 16, "intermediate_dim": 24, "num_layers": 2},
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 16, "n_fft": 1024, "hop_length": 256, "padding": "same"},
    },
}
MEL = "feature_extractor.mel_spec"


def changed(**changes: object) -> dict:
    """CONFIG with arguments replaced, such as head__dim=8, or taken away where the value is None."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        part, argument = key.split("__")
        where = config[part] if argument == "class_path" else config[part]["init_args"]
        where[argument] = value
        if value is None:
            del where[argument]
    return config


def centred() -> dict:
    return changed(feature_extractor__padding="center", head__padding="center")


def analysis(config: dict) -> torchaudio.transforms.MelSpectrogram:
    """The mel as the checkpoints' own code makes it."""
    arguments = dict(config["feature_extractor"]["init_args"])
    centre = arguments.pop("padding") == "center"
    return torchaudio.transforms.MelSpectrogram(**arguments, center=centre, power=1)


def random_weights(config: dict) -> dict[str, Tensor]:
    """A state dict with the names and shapes of the authors' model."""
    generator = torch.Generator().manual_seed(0)
    backbone, n_fft = config["backbone"]["init_args"], config["head"]["init_args"]["n_fft"]
    dim, inner = backbone["dim"], backbone["intermediate_dim"]
    shapes = {"backbone.embed": (dim, backbone["input_channels"], 7), "head.out": (n_fft + 2, dim)}
    norms = ["backbone.norm", "backbone.final_layer_norm"]
    state = {}
    for i in range(backbone["num_layers"]):
        block = f"backbone.convnext.{i}"
        shapes |= {f"{block}.dwconv": (dim, 1, 7), f"{block}.pwconv1": (inner, dim), f"{block}.pwconv2": (dim, inner)}
        norms.append(f"{block}.norm")
        state[f"{block}.gamma"] = torch.randn(dim, generator=generator)
    for layer, shape in (shapes | dict.fromkeys(norms, (dim,))).items():
        state[f"{layer}.weight"] = 0.4 * torch.randn(shape, generator=generator)
        state[f"{layer}.bias"] = 0.4 * torch.randn(shape[0], generator=generator)
    state |= {f"{MEL}.{name}": value for name, value in analysis(config).state_dict().items()}
    return state | {"head.istft.window": torch.hann_window(n_fft)}


def reference(state: dict[str, Tensor], mel: Tensor, hop: int = 256) -> Tensor:
    """The paper's network as functions of the weights, and PyTorch's inverse transform: (frames - 1) * hop samples."""

    def layer(function, x, name, *options, **named):
        return function(x, *options, state[f"{name}.weight"], state[f"{name}.bias"], **named)

    def norm(x, name):
        return layer(F.layer_norm, x.mT, name, x.shape[1:2], eps=1e-6).mT

    x = norm(layer(F.conv1d, mel, "backbone.embed", padding=3), "backbone.norm")
    for i in range(2):
        block = f"backbone.convnext.{i}"
        y = norm(layer(F.conv1d, x, f"{block}.dwconv", padding=3, groups=x.shape[1]), f"{block}.norm")
        y = layer(F.linear, F.gelu(layer(F.linear, y.mT, f"{block}.pwconv1")), f"{block}.pwconv2")
        x = x + (y * state[f"{block}.gamma"]).mT
    log_magnitude, phase = layer(F.linear, norm(x, "backbone.final_layer_norm").mT, "head.out").mT.chunk(2, dim=1)
    spectrum = log_magnitude.exp().clamp(max=100) * torch.exp(1j * phase)
    window = state["head.istft.window"]
    return torch.istft(spectrum, len(window), hop, window=window, center=True)


def write(folder: Path, config: dict, state: dict[str, Tensor]) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def some_mel(frames: int = 12) -> Tensor:
    return torch.randn(2, 80, frames, generator=torch.Generator().manual_seed(1)) - 5


@pytest.mark.parametrize("config", [CONFIG, centred()], ids=["same", "center"])
def test_vocos_gives_what_the_paper_describes(tmp_path, config):
    state = random_weights(config)
    expected = reference(state, some_mel())
    assert expected.std() > 0.01
    model = Vocos.load(write(tmp_path, config, state))
    assert not model.training
    with torch.no_grad():
        actual = model(some_mel())
    assert actual.shape == (2, 12 * 256)  # half a hop more at both ends than torch.istft gives
    torch.testing.assert_close(actual[:, 128:-128], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "center"])
def test_vocos_gives_what_the_authors_network_gives(tmp_path, padding):
    heads, models = pytest.importorskip("vocos.heads"), pytest.importorskip("vocos.models")
    config = changed(feature_extractor__padding=padding, head__padding=padding)
    state = random_weights(config)
    backbone = models.VocosBackbone(**config["backbone"]["init_args"])
    head = heads.ISTFTHead(**config["head"]["init_args"])
    for module, name in ((backbone, "backbone."), (head, "head.")):
        module.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
    with torch.no_grad():
        expected, actual = head(backbone(some_mel())), Vocos.load(write(tmp_path, config, state))(some_mel())
    actual = actual if padding == "same" else actual[:, 128:-128]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (1024, 512), (240, 48)])
def test_vocos_head_inverts_a_transform_of_this_framing(n_fft, hop):
    samples = torch.randn(2, 10 * hop, generator=torch.Generator().manual_seed(0))
    pad, window = (n_fft - hop) // 2, torch.hann_window(n_fft)
    padded = F.pad(samples, (pad, pad), mode="reflect")
    spectrum = torch.stft(padded, n_fft, hop, window=window, center=False, return_complex=True)
    head = ISTFTHead(HeadConfig(dim=n_fft + 2, n_fft=n_fft, hop_length=hop))
    with torch.no_grad():
        head.out.weight.copy_(torch.eye(n_fft + 2))
        head.out.bias.zero_()
        actual = head(torch.cat([spectrum.abs().log(), spectrum.angle()], dim=1).mT)
    torch.testing.assert_close(actual, samples, rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_vocos_output_is_frames_times_hop(tmp_path, frames):
    model = Vocos.load(write(tmp_path, CONFIG, random_weights(CONFIG)))
    assert model(torch.randn(3, 80, frames)).shape == (3, frames * 256)


def test_vocos_gradient_is_that_of_finite_differences(tmp_path):
    model = Vocos.load(write(tmp_path, CONFIG, random_weights(CONFIG))).double()
    mel = some_mel().double().requires_grad_()
    (gradient,) = torch.autograd.grad(model(mel).square().sum(), mel)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        difference = model(mel + 1e-5 * direction).square().sum() - model(mel - 1e-5 * direction).square().sum()
    torch.testing.assert_close(difference / 2e-5, gradient.norm(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("f_max", [8000, None])
def test_vocos_mel_is_the_one_it_was_trained_on(tmp_path, f_max):
    config = changed(feature_extractor__f_max=f_max)
    model = Vocos.load(write(tmp_path, config, random_weights(config)))
    assert model.mel_config == MelConfig(f_max=f_max or 11025)
    samples = 0.1 * torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    expected = analysis(config)(F.pad(samples, (384, 384), mode="reflect")).clamp(min=1e-5).log()
    torch.testing.assert_close(MelSpectrogram(model.mel_config)(samples), expected, rtol=0, atol=1e-4)


def test_vocos_takes_another_sample_rate(tmp_path):
    sizes = {f"{part}__n_fft": 2048 for part in ("feature_extractor", "head")}
    sizes |= {f"{part}__hop_length": 512 for part in ("feature_extractor", "head")}
    config = changed(feature_extractor__sample_rate=44100, **sizes)
    model = Vocos.load(write(tmp_path, config, random_weights(config)))
    assert model.mel_config == MelConfig(sample_rate=44100, n_fft=2048, window=2048, hop=512)
    assert model(some_mel(3)).shape == (2, 3 * 512)


def test_vocos_loads_half_precision_without_the_mel(tmp_path):
    state = {k: v.half() for k, v in random_weights(CONFIG).items()}
    whole = Vocos.load(write(tmp_path, CONFIG, state))(some_mel())
    bare = {k: v for k, v in state.items() if not k.startswith("feature_extractor")}
    assert torch.equal(Vocos.load(write(tmp_path, CONFIG, bare))(some_mel()), whole)
    assert whole.dtype == torch.float32


def test_vocos_refuses_the_authors_own_mel(tmp_path):
    config = changed(**{f"feature_extractor__{k}": None for k in ("norm", "mel_scale", "f_min", "f_max")})
    with pytest.raises(
        VcvaeError, match=r"config.yaml: 'feature_extractor.mel_scale' is htk, but only slaney is supported"
    ):
        Vocos.load(write(tmp_path, config, {}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_extractor__norm": None}, r"'feature_extractor.norm' is None, but only slaney is supported; give"),
        ({"feature_extractor__power": 2}, r"'feature_extractor.power' is 2.0, but only 1.0 is supported"),
        ({"feature_extractor__clip_val": 1e-7}, r"unknown key 'feature_extractor.clip_val'"),
        ({"feature_extractor__f_max": 12000}, r"feature_extractor: .*f_max not above half the sample rate"),
        ({"feature_extractor__class_path": "vocos.feature_extractors.EncodecFeatures"}, r"class_path' is vocos.*Encod"),
        ({"backbone__class_path": "vocos.models.VocosResNetBackbone"}, r"'backbone.class_path' is vocos.*ResNet"),
        (
            {"head__class_path": "vocos.heads.IMDCTCosHead"},
            r"'head.class_path' is .*IMDCTCosHead, but only vocos.heads",
        ),
        ({"head__class_path": None}, r"'head.class_path' is None, but only"),
        ({"backbone__dim": None}, r"the key 'backbone.dim' is missing"),
        ({"backbone__adanorm_num_embeddings": 4}, r"'backbone.adanorm_num_embeddings' is wrong"),
        ({"backbone__input_channels": 100}, r"backbone.input_channels is 100 and feature_extractor.n_mels is 80"),
        ({"head__dim": 8}, r"head.dim is 8 and backbone.dim is 16"),
        ({"head__hop_length": 128}, r"head.hop_length is 128 and feature_extractor.hop_length is 256"),
        ({"head__padding": "center"}, r"head.padding is center and feature_extractor.padding is same"),
        ({"head__padding": "valid"}, r"'head.padding' is wrong"),
        ({"head__n_fft": 256}, r"head.n_fft must be even, and a multiple of head.hop_length"),
        ({"head__n_fft": 1000}, r"head.n_fft must be even, and a multiple of head.hop_length"),
    ],
)
def test_vocos_names_a_wrong_config(tmp_path, changes, message):
    with pytest.raises(VcvaeError, match=rf"^{tmp_path}/config.yaml: .*{message}"):
        Vocos.load(write(tmp_path, changed(**changes), {}))


def test_vocos_refuses_a_config_of_another_mel_than_the_weights(tmp_path):
    state = random_weights(CONFIG)
    for name, other in (
        (f"{MEL}.mel_scale.fb", random_weights(changed(feature_extractor__f_max=None))[f"{MEL}.mel_scale.fb"]),
        (f"{MEL}.mel_scale.fb", torch.zeros(513, 100)),
        (f"{MEL}.spectrogram.window", torch.hamming_window(1024)),
        ("head.istft.window", torch.ones(1024)),
    ):
        with pytest.raises(VcvaeError, match=rf"pytorch_model.bin: '{name}' is another than config.yaml describes"):
            Vocos.load(write(tmp_path, CONFIG, {**state, name: other}))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "head"])
def test_vocos_refuses_a_config_that_is_none(tmp_path, text):
    write(tmp_path, CONFIG, {}).joinpath("config.yaml").write_text(text)
    with pytest.raises(VcvaeError, match=r"config.yaml: (holds no keys|not valid YAML|an empty file)"):
        Vocos.load(tmp_path)


def test_vocos_names_a_missing_file(tmp_path):
    with pytest.raises(VcvaeError, match=r"absent: neither a folder nor a repository"):
        Vocos.load(tmp_path / "absent")
    with pytest.raises(VcvaeError, match=r"no config.yaml in this folder; give a Vocos checkpoint, config.yaml and py"):
        Vocos.load(tmp_path)
    write(tmp_path, CONFIG, {}).joinpath("pytorch_model.bin").unlink()
    with pytest.raises(VcvaeError, match=r"no pytorch_model.bin in this folder; give a Vocos checkpoint"):
        Vocos.load(tmp_path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_vocos_refuses_a_file_without_weights(tmp_path, kind):
    damage(write(tmp_path, CONFIG, random_weights(CONFIG)) / "pytorch_model.bin", kind)
    with pytest.raises(VcvaeError, match=r"pytorch_model.bin: not a Vocos checkpoint; it should hold"):
        Vocos.load(tmp_path)


def test_vocos_refuses_weights_that_do_not_fit(tmp_path):
    state = random_weights(CONFIG)
    for weights, message in (
        ({k: v for k, v in state.items() if k != "head.out.bias"}, r"'head.out.bias' is absent here and \(1026,\) by"),
        (
            {**state, "head.out.bias": torch.zeros(1)},
            r"'head.out.bias' is \(1,\) here and \(1026,\) by config.yaml; use the config.yaml that",
        ),
        ({**state, "disc.weight": torch.zeros(1)}, r"'disc.weight' is \(1,\) here and absent by config.yaml"),
    ):
        with pytest.raises(VcvaeError, match=rf"pytorch_model.bin: {message}"):
            Vocos.load(write(tmp_path, CONFIG, weights))


def test_vocos_state_is_the_one_that_was_read(tmp_path):
    state = random_weights(CONFIG)
    for name, value in Vocos.load(write(tmp_path, CONFIG, state)).state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-6)


def test_vocos_refuses_a_mel_that_does_not_fit_without_a_file():
    parts = {part: config["init_args"] for part, config in changed(feature_extractor__mel_scale="htk").items()}
    with pytest.raises(VcvaeError, match=r"^'feature_extractor.mel_scale' is htk"):
        Vocos(VocosConfig.parse(parts, context="here"))
