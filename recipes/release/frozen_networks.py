"""Makes the frozen networks of the losses (vcvae/pretrained/speaker_similarity, content) from public checkpoints.

    python recipes/release/frozen_networks.py speaker DESTINATION --recordings FOLDER [--factorize]
    python recipes/release/frozen_networks.py content DESTINATION

The speaker network is SpeechBrain's ECAPA-TDNN (the repository speechbrain/spkrec-ecapa-voxceleb, or a folder with its
embedding_model.ckpt) without its last layer. Its filter bank is predicted from the log-mel by a linear map, fitted by
least squares to recordings of many speakers. With --factorize its large matrices are replaced by two factors each,
which keep the principal components of their outputs for these recordings: two thirds of the size and of the time. The
content network is the encoder of Moonshine (the repository UsefulSensors/moonshine-tiny, or a folder with its
model.safetensors). --checkpoint names another folder or repository. Weights are stored in int8, beside a card, which
states the cosine of the outputs and of the original network's for other recordings. Each takes minutes on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from vcvae import audio
from vcvae.errors import VcvaeError
from vcvae.features.fbank import FBANK_SAMPLE_RATE, filterbank
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.ecapa import ECAPA_REPOSITORY, EcapaTDNN, EcapaTrunk, ReflectConv1d, load_ecapa
from vcvae.models.frozen.moonshine import MOONSHINE_REPOSITORY, MoonshineEncoder, load_moonshine
from vcvae.models.frozen.speaker_similarity import CONTEXT_FRAMES, SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.models.hub import CARD, check_vacant
from vcvae.pretrained import CONTENT

LICENSE = "LICENSE"
MAX_SECONDS = 10.0  # used of each recording, from its beginning
BLOCK_RANK = 3 / 8  # of the matrices of the blocks, relative to their size: 384 of 1,024
FACTORIZED = 200  # recordings whose outputs give the factors
POOLED_RANK = 1 / 4  # of the matrix before the pooling, relative to its size: 768 of 3,072
HELD_OUT = 40  # other recordings, for which the outputs are compared
RIDGE = 1e-6  # regularization of the least squares, relative to the mean power of the inputs


def make_speaker_network(ecapa: EcapaTDNN, recordings: Iterable[Path]) -> SpeakerSimilarityNet:
    """The trunk of `ecapa` behind a linear map, log-mel → filter bank, fitted to the recordings.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    sizes = ecapa.config.model_dump(include=set(SpeakerSimilarityNetConfig.model_fields))
    net = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**sizes)).eval().requires_grad_(False)
    xx, xy = 0.0, 0.0  # sums of products of inputs with inputs, and of inputs with outputs
    for recording in recordings:
        mel, bands = _mel_and_bands(recording, net.config.mel)
        windows = net.resample_frames(mel).unfold(2, 2 * CONTEXT_FRAMES + 1, 1)[0, :, : bands.shape[2]]
        inputs = windows.transpose(0, 1).flatten(1)
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).double()
        outputs = bands[0, :, : len(inputs)].T.double()
        xx = xx + inputs.T @ inputs
        xy = xy + inputs.T @ outputs
    ridge = RIDGE * xx.diagonal().mean() * torch.eye(len(xx), dtype=torch.float64)
    solution = torch.linalg.solve(xx + ridge, xy).float()
    net.bands.weight.copy_(solution[:-1].T.unflatten(1, net.bands.weight.shape[1:]))
    net.bands.bias.copy_(solution[-1])
    trunk = {name: x for name, x in ecapa.state_dict().items() if not name.startswith("fc.")}
    net.network.load_state_dict(trunk)
    return net


@torch.no_grad()
def factorize(
    net: SpeakerSimilarityNet, recordings: Iterable[Path], *, block_rank: float, pooled_rank: float
) -> SpeakerSimilarityNet:
    """The network with its large matrices W replaced by U·(Uᵀ·W), U the principal axes of their outputs for recordings.

    Of all matrices of a rank this one changes the outputs least in the mean (Jaderberg et al. 2014, arXiv:1405.3866,
    section 2.2). The biases take the mean of what is left out. Ranks are relative to the matrices' sizes.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    channels = net.config.channels
    ranks = {"block_rank": round(block_rank * channels), "pooled_rank": round(3 * pooled_rank * channels)}
    config = net.config.model_copy(update=ranks)
    factorized = SpeakerSimilarityNet(config).eval().requires_grad_(False)
    factors = {
        name: module.conv
        for name, module in factorized.network.named_modules(prefix="network")
        if isinstance(module, ReflectConv1d) and isinstance(module.conv, torch.nn.Sequential)
    }
    outputs = {name: _Moments() for name in factors}
    hooks = [net.get_submodule(name).register_forward_hook(moments) for name, moments in outputs.items()]
    for recording in recordings:
        net(_mel_and_bands(recording, net.config.mel)[0])
    for hook in hooks:
        hook.remove()
    weights = net.state_dict()
    for name, (down, _) in factors.items():
        axes = outputs[name].principal_axes(down.out_features)
        mean = outputs[name].mean
        weight = weights.pop(f"{name}.conv.weight")[:, :, 0].double()
        bias = weights.pop(f"{name}.conv.bias").double()
        weights[f"{name}.conv.0.weight"] = (axes.T @ weight).float()
        weights[f"{name}.conv.1.weight"] = axes.float()
        weights[f"{name}.conv.1.bias"] = (axes @ (axes.T @ (bias - mean)) + mean).float()
    factorized.load_state_dict(weights)
    return factorized


class _Moments:
    """A forward hook that sums a convolution's outputs (1, frames, channels), and their products."""

    def __init__(self) -> None:
        self.frames = 0
        self.sum = 0.0
        self.products = 0.0

    def __call__(self, module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = output[0].double()
        self.frames += len(x)
        self.sum = self.sum + x.sum(dim=0)
        self.products = self.products + x.T @ x

    @property
    def mean(self) -> Tensor:
        """Of the outputs, (channels,)."""
        return self.sum / self.frames

    def principal_axes(self, rank: int) -> Tensor:
        """The first `rank` eigenvectors of the outputs' covariance, (channels, rank)."""
        covariance = self.products / self.frames - torch.outer(self.mean, self.mean)
        return torch.linalg.eigh(covariance).eigenvectors[:, -rank:]


def make_content_network(moonshine: MoonshineEncoder) -> ContentNet:
    """The encoder of a recognizer for samples at 22.05 kHz."""
    net = ContentNet(ContentNetConfig(**moonshine.config.model_dump()))
    net.encoder = copy.deepcopy(moonshine)
    return net.eval()


@torch.no_grad()
def mean_cosine(net: SpeakerSimilarityNet, ecapa: EcapaTrunk, recordings: Iterable[Path]) -> float:
    """The mean cosine of the outputs for recordings' mels and the original network's for their waveforms."""
    cosines = []
    for recording in recordings:
        mel, bands = _mel_and_bands(recording, net.config.mel)
        cosines.append(torch.cosine_similarity(net(mel), ecapa.pooled_statistics(bands)))
    return torch.cat(cosines).mean().item()


def _mel_and_bands(recording: Path, config: MelConfig) -> tuple[Tensor, Tensor]:
    """The log-mel (1, n_mels, frames) and the filter bank (1, 80, frames) of a recording's beginning."""
    samples = audio.read(recording, config.sample_rate)[: round(MAX_SECONDS * config.sample_rate)]
    samples = samples[: len(samples) // config.hop * config.hop]
    resampled = soxr.resample(samples, config.sample_rate, FBANK_SAMPLE_RATE)
    return MelSpectrogram(config)(torch.from_numpy(samples)[None]), filterbank(torch.from_numpy(resampled)[None])


def draw_recordings(folder: Path, *, count: int, held_out: int, seed: int = 0) -> tuple[list[Path], list[Path]]:
    """`count` recordings of a folder to fit to, and `held_out` others to measure on; of few, a tenth.

    Raises:
        VcvaeError: no folder with recordings, or only one.
    """
    paths = audio.find(folder)
    if len(paths) < 2:
        raise VcvaeError(f"{folder}: holds one recording; give a folder of recordings by many speakers.")
    order = np.random.default_rng(seed).permutation(len(paths))
    fitted = min(count, len(paths) - min(held_out, max(1, len(paths) // 10)))
    drawn = [paths[i] for i in order[: fitted + held_out]]
    return drawn[:fitted], drawn[fitted:]


SPEAKER_CARD = """---
license: apache-2.0
library_name: vcvae
pipeline_tag: audio-classification
language: en
tags: [speaker-verification, voice-conversion]
---

# vcvae: the speaker encoder of the speaker similarity loss

Log-mel (22.05 kHz, 80 bands to 8 kHz, HiFi-GAN's convention; `config.json`) → speaker embedding of unit length,
{outputs:,} values: an ECAPA-TDNN without its last layer ({parameters:.1f} M weights, int8), whose filter bank is
predicted from the mel by a linear layer. `vcvae convert` uses it as a loss while it fine-tunes the decoder on a target:
the embedding of the conversion should be that of the target. For speaker verification itself, use the original network.

| | |
|---|---|
| network | {checkpoint} (SpeechBrain's is under Apache-2.0, trained on VoxCeleb 1 and 2){factors} |
| linear layer | least squares, on the first ten seconds of {fitted} recordings |
| cosine | {cosine:.3f} of its output and of the original network's, in the mean over {held_out} other recordings |
| made by | `recipes/release/frozen_networks.py` in the project's repository |

B. Desplanques, J. Thienpondt, K. Demuynck, "ECAPA-TDNN", 2020 (arXiv:2005.07143); M. Ravanelli et al., "SpeechBrain",
2021 (arXiv:2106.04624).

## Limits, and consent

English read speech, and conversions of it. Do not use it to identify or to find people. It is a training loss: a high
similarity by this network does not prove that other networks agree.
"""

CONTENT_CARD = """---
license: mit
library_name: vcvae
pipeline_tag: feature-extraction
language: en
tags: [speech-recognition, voice-conversion]
---

# vcvae: the ASR encoder of the content loss

Samples (22.05 kHz) → features, {channels} values 41.7 times per second: the encoder of the speech recognizer Moonshine
({parameters:.1f} M weights, int8; sizes in `config.json`). `vcvae convert` uses it as a loss while it fine-tunes the
decoder on a target: the features of the conversion should be those of the source. It gives no text; for that, use the
whole recognizer.

| | |
|---|---|
| network | {checkpoint}, rounded to int8 with a float16 scale per row |
| made by | `recipes/release/frozen_networks.py` in the project's repository |

N. Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024 (arXiv:2410.15608).
Moonshine is under the MIT licence, Copyright (c) 2025 Useful Sensors, Inc.

## Limits

English read speech, and conversions of it.
"""


def write_speaker_network(
    destination: Path, recordings: Path, *, checkpoint: str | None, count: int, factors: bool
) -> None:
    """Make the speaker network, and save it with its card.

    Raises:
        VcvaeError: no checkpoint, or no recordings.
    """
    ecapa = load_ecapa(checkpoint)
    fitted, held_out = draw_recordings(recordings, count=count, held_out=HELD_OUT)
    net = make_speaker_network(ecapa, fitted)
    if factors:
        net = factorize(net, fitted[:FACTORIZED], block_rank=BLOCK_RANK, pooled_rank=POOLED_RANK)
    net.release(destination, small=True)
    cosine = mean_cosine(SpeakerSimilarityNet.from_pretrained(destination), ecapa, held_out)
    card = SPEAKER_CARD.format(
        outputs=net.outputs,
        parameters=_millions(net),
        checkpoint=checkpoint or ECAPA_REPOSITORY,
        factors="; its large matrices in two factors" if factors else "",
        fitted=len(fitted),
        cosine=cosine,
        held_out=len(held_out),
    )
    (destination / CARD).write_text(card, encoding="utf-8")
    print(f"mean cosine for {len(held_out)} other recordings: {cosine:.3f}")


def write_content_network(destination: Path, *, checkpoint: str | None) -> None:
    """Make the content network, and save it with its card and its licence.

    Raises:
        VcvaeError: no checkpoint.
    """
    net = make_content_network(load_moonshine(checkpoint))
    card = CONTENT_CARD.format(
        channels=net.config.channels, parameters=_millions(net), checkpoint=checkpoint or MOONSHINE_REPOSITORY
    )
    net.release(destination, small=True)
    (destination / CARD).write_text(card, encoding="utf-8")
    shutil.copyfile(CONTENT / LICENSE, destination / LICENSE)  # the MIT licence asks for its text beside copies


def _millions(net: torch.nn.Module) -> float:
    return sum(x.numel() for x in net.parameters()) / 1e6


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("network", choices=["speaker", "content"])
    parser.add_argument("destination", type=Path, help="a folder for the weights and their configuration")
    parser.add_argument("--checkpoint", help="a folder or a repository with the public checkpoint")
    parser.add_argument("--recordings", type=Path, help="a folder of recordings by many speakers (speaker)")
    parser.add_argument("--count", type=int, default=2000, help="recordings to fit to")
    parser.add_argument("--factorize", action="store_true", help="replace large matrices by two factors (speaker)")
    parser.add_argument("--force", action="store_true", help="overwrite a model in the destination")
    options = parser.parse_args(arguments)
    if options.network == "speaker" and options.recordings is None:
        parser.error("speaker: give a folder of recordings with --recordings")
    try:
        check_vacant(options.destination, options.force)
        if options.network == "content":
            write_content_network(options.destination, checkpoint=options.checkpoint)
        else:
            write_speaker_network(
                options.destination,
                options.recordings,
                checkpoint=options.checkpoint,
                count=options.count,
                factors=options.factorize,
            )
        print(f"{options.destination}: written")
    except VcvaeError as error:
        sys.exit(f"frozen_networks.py: {error}")


if __name__ == "__main__":
    main()
