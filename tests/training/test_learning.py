"""Conversion between synthetic speakers that differ in F0 and vocal tract only, so the ideal conversion is known."""

from itertools import product

import librosa
import numpy as np
import pytest
import soundfile as sf
import torch
from rich.console import Console

from tests.synthetic import PHONES, speak
from vcvae.augment.mel import warp
from vcvae.convert.encoder import Encoder
from vcvae.data.prepare import prepare
from vcvae.metrics.speakers import covariances, probe
from vcvae.models import load_model
from vcvae.training.loop import train
from vcvae.training.run_folder import load_run
from vcvae.training.tasks import parse

pytestmark = pytest.mark.slow  # a minute of training

RATE, SECONDS = 22050, 3.0
TRAIN_F0, TRAIN_TRACTS = (90, 120, 160, 210), (0.85, 0.95, 1.05, 1.15)  # Hz; scales of the formants
LOW, HIGH, SMALL_SCALE, LARGE_SCALE = 105, 195, 0.9, 1.1  # of the unseen speakers
PAIRS = [  # F0 and formant scale of source and target
    ((LOW, SMALL_SCALE), (HIGH, LARGE_SCALE)),
    ((HIGH, LARGE_SCALE), (LOW, SMALL_SCALE)),
    ((LOW, LARGE_SCALE), (HIGH, SMALL_SCALE)),
    ((HIGH, SMALL_SCALE), (LOW, LARGE_SCALE)),
]
COMPARED_BANDS = slice(60)  # up to 4 kHz


def random_words(seed: int) -> str:
    """Twelve phones, no two adjacent ones equal."""
    random = np.random.default_rng(seed)
    phones = [phone for phone in PHONES if phone != " "]
    words = [str(random.choice(phones))]
    while len(words) < 12:
        phone = str(random.choice(phones))
        if phone != words[-1]:
            words.append(phone)
    return "".join(words)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Trained on 16 speakers, four F0s by four vocal tracts, with five utterances each."""
    root = tmp_path_factory.mktemp("learning")
    for k, (f0, tract) in enumerate(product(TRAIN_F0, TRAIN_TRACTS)):
        (root / "source" / f"{k:02d}").mkdir(parents=True)
        for i in range(5):
            seed = 100 * k + i
            samples = speak(random_words(seed), f0=f0, tract=tract, seconds=SECONDS, seed=seed)
            sf.write(root / "source" / f"{k:02d}" / f"{i}.wav", samples, RATE)
    prepare("folder", root / "source", root / "ready", sample_rate=RATE, dev=0, test=0)
    values = {
        "task": "conversion",
        "output": str(root / "run"),
        "data": {"train": str(root / "ready" / "train"), "dev": str(root / "ready" / "train")},
        "steps": 800,
        "batch_speakers": 4,
        "segment_frames": 64,
        "speeds": [1.0],
        "workers": 0,
        "conversions_from": 200,
        "kl_warmup": 100,
        "band_dropout": 0.0,
        "weights": {"adversarial": 0.0, "feature_matching": 0.0},
        "optimizer": {"learning_rate": 2e-3, "warmup": 20},
        "ema_decay": 0.98,
        "validate_every": 10_000,
        "model": {
            "fast_channels": 64,
            "slow_channels": 64,
            "content_latent": 8,
            "speaker_latent": 16,
            "speaker_channels": 48,
            "f0_channels": 32,
        },
    }
    train(parse(values, context="test"), Console(quiet=True))
    return Encoder(load_run(root / "run")[1].released.eval())


def log_mel(encoder, samples):
    return torch.from_numpy(encoder.mel(samples))[None]


def l1(a, b):
    return (a - b)[:, COMPARED_BANDS].abs().mean().item()


@pytest.fixture(scope="module", params=PAIRS, ids=str)
def case(request, encoder):
    """Mels of a source utterance, of the same words by the target, and of the conversion; source and target."""
    source_speaker, target_speaker = request.param
    utterance = {"words": random_words(77), "seconds": SECONDS, "seed": 1}
    source = log_mel(encoder, speak(**utterance, f0=source_speaker[0], tract=source_speaker[1]))
    answer = log_mel(encoder, speak(**utterance, f0=target_speaker[0], tract=target_speaker[1]))
    reference = speak(random_words(78), f0=target_speaker[0], tract=target_speaker[1], seconds=SECONDS, seed=2)
    with torch.no_grad():
        converted = encoder.model.convert(source, encoder.model.voice(log_mel(encoder, reference)))
    return source, answer, converted, source_speaker, target_speaker


def test_conversion_is_nearer_to_the_targets_utterance_than_to_the_source(case):
    source, answer, converted, *_ = case
    assert l1(converted, answer) < l1(converted, source)


def test_conversion_has_the_formants_of_the_target(case):
    source, _, converted, (_, source_tract), (_, target_tract) = case
    centres = torch.from_numpy(librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1].astype(np.float32))
    scales = torch.linspace(0.7, 1.4, 71)
    distances = [l1(warp(source, 1 / scale[None], centres), converted) for scale in scales]
    scale = scales[int(np.argmin(distances))]
    assert np.log(scale) == pytest.approx(np.log(target_tract / source_tract), abs=0.12)


def test_conversion_has_the_f0_of_the_target(encoder, case):
    _, answer, converted, (source_f0, _), (target_f0, _) = case
    octaves = encoder.model.f0(converted).statistics().mean - encoder.model.f0(answer).statistics().mean
    assert abs(octaves.item()) < 0.25 * abs(np.log2(target_f0 / source_f0))


def test_conversion_keeps_the_words(encoder, case):
    """Most frames of the conversion are nearest to their own phone, among all phones by the target."""
    _, answer, converted, _, (f0, tract) = case
    phones = [phone for phone in PHONES if phone != " "]
    phone_mels = [log_mel(encoder, speak(phone, f0=f0, tract=tract, seconds=0.6)) for phone in phones]
    templates = torch.stack([mel[0, :, 10:40].mean(dim=1) for mel in phone_mels])
    templates = templates - templates.mean(dim=1, keepdim=True)
    frames = converted.shape[2]
    truth = np.array([phones.index(phone) for phone in random_words(77)])[np.arange(frames) * 12 // frames]

    def accuracy(mel):
        levelled = mel[0].T - mel[0].T.mean(dim=1, keepdim=True)
        return (torch.cdist(levelled, templates).argmin(dim=1).numpy() == truth).mean()

    assert accuracy(answer) > 0.6
    assert accuracy(converted) > 0.6 * accuracy(answer)


def content_of_unseen_speakers(encoder):
    """Content latents of nine unseen speakers, 16 utterances each, and the speaker of each utterance."""
    latents, speakers = [], []
    for k, (f0, tract) in enumerate(product((100, 140, 180), (0.9, 1.0, 1.1))):
        for i in range(16):
            seed = 9000 + 50 * k + i
            samples = speak(random_words(seed), f0=f0, tract=tract, seconds=SECONDS, seed=seed)
            latents.append(encoder.content(samples))
            speakers.append(f"{k}")
    return latents, speakers


def test_means_of_content_latents_do_not_reveal_the_speaker(encoder):
    leakage = probe(*content_of_unseen_speakers(encoder))
    assert leakage.accuracy < 3 * leakage.chance


def test_covariances_of_released_content_latents_do_not_reveal_the_speaker():
    latents, speakers = content_of_unseen_speakers(Encoder(load_model().eval()))
    leakage = probe(covariances(latents), speakers)
    assert leakage.accuracy < 2 * leakage.chance
