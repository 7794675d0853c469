"""A minute of training on "speakers" who differ in f0 and vocal tract alone, so that every right answer is valid_bands."""

import librosa
import numpy as np
import pytest
import soundfile as sf
import torch
from rich.console import Console

from tests.synthetic import PHONES, speak
from vcvae.augment.mel import warp
from vcvae.convert.encoder import Encoder
from vcvae.data.prepare import Preparation
from vcvae.metrics.speakers import probe
from vcvae.training.loop import load_run, train
from vcvae.training.tasks import parse

RATE, SECONDS = 22050, 3.0
PITCHES, TRACTS = (90, 120, 160, 210), (0.85, 0.95, 1.05, 1.15)  # of those who are learned from, in Hz and as scales
LOW, HIGH, MIN_ROW, SHORT = 105, 195, 0.9, 1.1  # of those who never were
PAIRS = [  # f0 and tract of source and target
    ((LOW, MIN_ROW), (HIGH, SHORT)),
    ((HIGH, SHORT), (LOW, MIN_ROW)),
    ((LOW, SHORT), (HIGH, MIN_ROW)),
    ((HIGH, MIN_ROW), (LOW, SHORT)),
]
HEARD = slice(60)  # bands, up to 4 kHz


def words(seed: int) -> str:
    """A dozen phones, a different one each time."""
    random = np.random.default_rng(seed)
    phones = [phone for phone in PHONES if phone != " "]
    said = [str(random.choice(phones))]
    while len(said) < 12:
        phone = str(random.choice(phones))
        if phone != said[-1]:
            said.append(phone)
    return "".join(said)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Trained on 16 speakers, four f0s by four tracts, five utterances each."""
    root = tmp_path_factory.mktemp("learning")
    for k, (f0, tract) in enumerate((p, t) for p in PITCHES for t in TRACTS):
        (root / "source" / f"{k:02d}").mkdir(parents=True)
        for i in range(5):
            samples = speak(words(100 * k + i), f0=f0, tract=tract, seconds=SECONDS, seed=100 * k + i)
            sf.write(root / "source" / f"{k:02d}" / f"{i}.wav", samples, RATE)
    list(Preparation("folder", root / "source", root / "ready", sample_rate=RATE, dev=0, test=0))
    values = {
        "task": "conversion",
        "output": str(root / "run"),
        "data": {"train": str(root / "ready" / "train"), "dev": str(root / "ready" / "train")},
        "steps": 700,
        "batch_speakers": 4,
        "segment_frames": 64,
        "speeds": [1.0],
        "workers": 0,
        "conversions_from": 200,
        "kl_warmup": 100,
        "band_dropout": 0.0,
        "weights": {"adversarial": 0.0, "features": 0.0, "content_mse": 0.0},
        "optimizer": {"learning_rate": 2e-3, "warmup": 20},
        "average": 0.98,
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
    train(parse(values, where="test"), Console(quiet=True))
    return Encoder(load_run(root / "run")[1].released.eval())


def hear(encoder, samples):
    return torch.from_numpy(encoder.mel(samples))[None]


def difference(a, b):
    return (a - b)[:, HEARD].abs().mean().item()


@pytest.fixture(scope="module", params=PAIRS, ids=str)
def case(request, encoder):
    """Mels of what the source says, of the same in the target's voice, and of the conversion."""
    (f0, tract), (wanted_pitch, wanted_tract) = request.param
    said = {"words": words(77), "seconds": SECONDS, "seed": 1}
    source = hear(encoder, speak(**said, f0=f0, tract=tract))
    answer = hear(encoder, speak(**said, f0=wanted_pitch, tract=wanted_tract))
    target = hear(encoder, speak(words(78), f0=wanted_pitch, tract=wanted_tract, seconds=SECONDS, seed=2))
    with torch.no_grad():
        converted = encoder.model.convert(source, encoder.model.voice(target))
    return source, answer, converted, (f0, tract), (wanted_pitch, wanted_tract)


def test_a_conversion_is_nearer_to_what_the_target_would_say_than_to_what_the_source_said(case):
    source, answer, converted, *_ = case
    assert difference(converted, answer) < difference(converted, source)


def test_formants_move_to_those_of_the_target(case):
    source, _, converted, (_, tract), (_, wanted) = case
    centres = torch.from_numpy(librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1].astype(np.float32))
    scales = torch.linspace(0.7, 1.4, 71)
    moved = [difference(warp(source, 1 / scale[None], centres), converted) for scale in scales]
    assert np.log(scales[int(np.argmin(moved))]) == pytest.approx(np.log(wanted / tract), abs=0.12)


def test_the_pitch_moves_to_the_targets(encoder, case):
    _, answer, converted, (f0, _), (wanted, _) = case
    octaves = encoder.model.f0(converted).statistics().mean - encoder.model.f0(answer).statistics().mean
    assert abs(octaves.item()) < 0.25 * abs(np.log2(wanted / f0))


def test_the_words_stay(encoder, case):
    """A frame of the conversion is most like the phone that was said, among all phones in the target's voice."""
    _, answer, converted, _, (f0, tract) = case
    phones = [phone for phone in PHONES if phone != " "]
    alone = [hear(encoder, speak(phone, f0=f0, tract=tract, seconds=0.6)) for phone in phones]
    shapes = torch.stack([mel[0, :, 10:40].mean(dim=1) for mel in alone])
    frames = converted.shape[2]
    said = np.array([phones.index(phone) for phone in words(77)])[np.arange(frames) * 12 // frames]

    def found(mel):
        levelled, wanted = (x - x.mean(dim=1, keepdim=True) for x in (mel[0].T, shapes))
        return (torch.cdist(levelled, wanted).argmin(dim=1).numpy() == said).mean()

    assert found(answer) > 0.6
    assert found(converted) > 0.6 * found(answer)


def test_content_latents_hardly_tell_who_speaks(encoder):
    latents, speakers = [], []
    for k, (f0, tract) in enumerate((p, t) for p in (100, 140, 180) for t in (0.9, 1.0, 1.1)):
        for i in range(16):
            seed = 9000 + 50 * k + i
            samples = speak(words(seed), f0=f0, tract=tract, seconds=SECONDS, seed=seed)
            latents.append(encoder.content(samples))
            speakers.append(f"{k}")
    found = probe(latents, speakers)
    assert found.accuracy < 3 * found.chance
