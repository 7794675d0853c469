"""Synthesize the sentences of `vcvae/pretrained/sentences/` with Kokoro-82M (Apache-2.0).

    pip install '.[release]'
    python recipes/release/sentences.py DESTINATION [--checkpoint FOLDER]

The checkpoint is an ONNX export of Kokoro-82M: the repository onnx-community/Kokoro-82M-v1.0-ONNX, or a folder with its
onnx/model_quantized.onnx and voices/<voice>.bin (510 x 256 float32).

Writes `<number>_<voice>.ogg` (mono Ogg Opus, 24 kHz) per sentence, and a card. Sentences that are there are kept.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from vcvae.errors import VcvaeError, replacing
from vcvae.models.hub import CARD, fetch

if TYPE_CHECKING:
    from kokoro_onnx import Kokoro

REPOSITORY = "onnx-community/Kokoro-82M-v1.0-ONNX"
WEIGHTS = "onnx/model_quantized.onnx"

SAMPLE_RATE = 24_000  # Hz, what Kokoro-82M synthesizes
SPEED = 0.87  # of the voices, whose normal speed is fast for reading
LOWEST = 50.0  # Hz; what is lower is removed
PEAK = -3.0  # dB of full scale
SILENCE = 45.0  # dB under the loudest 10 ms; quieter audio at either end is cut...
MARGIN = 0.08  # ...except for this many seconds
FADE = 0.02  # seconds, at either end
COMPRESSION = 0.82  # of Opus, from 0 (256 kbit/s) to 1 (6 kbit/s): about 55 kbit/s

# Voice and text. The first letter is the accent (a: American, b: British), the second the sex (f, m); `v+w` is the
# mean of the styles of two voices. Each of the 36 voices reads one sentence.
SENTENCES = [
    ("af_heart", "The children fed the ducks by the pond, then walked home through the rain."),
    ("af_bella", "Could you pass me the blue jug? The plants by the window need water."),
    ("af_sarah", "A thick layer of fog covered the valley until the sun came up."),
    ("af_kore", "She measured the length of the shelf and wrote the figure on a card."),
    ("af_aoede", "What a beautiful view! We can see both the beach and the mountains."),
    ("af_nova", "My uncle bought a used guitar and taught himself three easy songs."),
    ("af_alloy", "Fresh bread and yellow cheese make a fine lunch on a long journey."),
    ("af_sky", "Please choose a quiet place where nobody will bother you for an hour."),
    ("af_river", "They usually go fishing on the weekend, if the weather is good enough."),
    ("am_michael", "The judge asked a question, and the whole room fell silent."),
    ("am_fenrir", "Heavy clouds gathered in the north, and thunder shook the house."),
    ("am_puck", "Watch out! That branch could break, with so much snow and ice on it."),
    ("am_echo", "He fixed the engine with a bolt, two springs and a piece of wire."),
    ("am_eric", "Why does the kitchen smell of smoke? Did someone leave the stove on?"),
    ("am_liam", "The young driver paid for the fuel and checked the pressure of the oil."),
    ("am_onyx", "Sugar, vanilla and orange peel give the cake its rich flavor."),
    ("am_adam", "They carried the boat down to the shore and steered it toward the bridge."),
    ("am_fenrir+am_michael", "The last train was delayed, so I read the paper and drank some tea."),
    ("bf_emma", "The garden behind the church is open to visitors every Thursday."),
    ("bf_isabella", "Have you ever heard an owl at night? It is a strange and lonely sound."),
    ("bf_alice", "Her voice was calm, but her hands trembled as she opened the letter."),
    ("bf_lily", "The museum shows clothes and toys that are more than a century old."),
    ("bf_emma+bf_isabella", "Peel the onions, chop them roughly and fry them in a little butter."),
    ("bf_lily+af_heart", "Both brothers joined the village choir and sang there for many years."),
    ("bf_alice+af_kore", "How far is the airport from here, and which road should we take?"),
    ("bf_isabella+af_sarah", "The teacher praised the boy for his careful drawing of a giraffe."),
    ("bf_emma+af_bella", "No, thank you! We have had enough soup, but the pie looks delicious."),
    ("bm_george", "The path runs along the edge of a cliff, with the sea far below."),
    ("bm_daniel", "A good doctor must listen closely before giving any advice."),
    ("bm_lewis", "The price of wool dropped again, which worried the farmers."),
    ("bm_daniel+bm_lewis", "Long ago, a clever fox lived in a cave beneath a huge oak tree."),
    ("bm_george+bm_lewis", "Where did you put the keys? We searched every drawer in the office."),
    ("bm_daniel+am_puck", "The crowd cheered loudly as the horses raced around the final bend."),
    ("bm_daniel+am_michael", "You should measure the board twice before you cut it with a saw."),
    ("bm_lewis+am_fenrir", "It was a pleasure to meet you! Please enjoy your stay in the city."),
    ("bm_george+am_onyx", "Eight fresh eggs, a cup of milk and a pinch of salt will be sufficient."),
]

# Kokoro-82M is trained on the symbols of misaki; espeak-ng writes the same sounds in the IPA.
MISAKI = {
    "eɪ": "A",
    "aɪ": "I",
    "aʊ": "W",
    "ɔɪ": "Y",
    "dʒ": "ʤ",
    "tʃ": "ʧ",
    "əl": "ᵊl",
    "ɚɹ": "əɹ",
    "ɚ": "əɹ",
    "ɐ": "ə",
    "r": "ɹ",
}
AMERICAN = {"oʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
BRITISH = {"eə": "ɛː", "iə": "ɪə", "əʊ": "Q"}


def phonemes_of(text: str, accent: str, kokoro: Kokoro) -> str:
    """The text in the symbols that Kokoro-82M is trained on; `accent` is "a" (American) or "b" (British)."""
    phonemes = kokoro.tokenizer.phonemize(text, "en-gb" if accent == "b" else "en-us")
    for ipa, symbol in (MISAKI | (BRITISH if accent == "b" else AMERICAN)).items():
        phonemes = phonemes.replace(ipa, symbol)
    return phonemes


def levelled(samples: np.ndarray) -> np.ndarray:
    """(samples,) without rumble and without the silence at either end, faded, with a peak of `PEAK` dB."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) < LOWEST] = 0
    samples = np.fft.irfft(spectrum, len(samples))
    frame = SAMPLE_RATE // 100
    energies = np.square(samples[: len(samples) // frame * frame].reshape(-1, frame)).mean(axis=1)
    loud = np.flatnonzero(energies > energies.max() * 10 ** (-SILENCE / 10))
    margin = int(MARGIN * SAMPLE_RATE)
    samples = samples[max(0, loud[0] * frame - margin) : (loud[-1] + 1) * frame + margin].copy()
    ramp = np.linspace(0, 1, int(FADE * SAMPLE_RATE))
    samples[: len(ramp)] *= ramp
    samples[-len(ramp) :] *= ramp[::-1]
    return samples / np.abs(samples).max() * 10 ** (PEAK / 20)


def load(checkpoint: str, folder: Path) -> Kokoro:
    """Kokoro-82M with the voices of `SENTENCES`, which are written to `folder` as kokoro-onnx reads them.

    Raises:
        VcvaeError: kokoro-onnx is not installed, or a file of the checkpoint is missing.
    """
    try:
        from kokoro_onnx import Kokoro
    except ImportError as error:
        raise VcvaeError(f"sentences: kokoro-onnx is missing ({error}); pip install '.[release]'.") from None
    give = "one with the files of " + REPOSITORY
    styles = {}
    for voice, _ in SENTENCES:
        files = [fetch(checkpoint, f"voices/{name}.bin", give=give) for name in voice.split("+")]
        styles[voice] = np.mean([np.fromfile(file, np.float32).reshape(-1, 1, 256) for file in files], axis=0)
    np.savez(folder / "voices.npz", **styles)
    return Kokoro(str(fetch(checkpoint, WEIGHTS, give=give)), str(folder / "voices.npz"))


def synthesize(checkpoint: str, destination: Path) -> list[tuple[str, float, str]]:
    """Write the sentences that are not there yet; the file name, the seconds and the text of each.

    Raises:
        VcvaeError: as `load`.
    """
    destination.mkdir(parents=True, exist_ok=True)
    kokoro, rows = None, []
    with tempfile.TemporaryDirectory() as folder:
        for number, (voice, text) in enumerate(SENTENCES, 1):
            path = destination / f"{number:02d}_{re.sub('[+]', '-', voice)}.ogg"
            if not path.exists():
                kokoro = kokoro or load(checkpoint, Path(folder))
                phonemes = phonemes_of(text, voice[0], kokoro)
                samples = levelled(kokoro.create(phonemes, voice, SPEED, is_phonemes=True)[0])
                with replacing(path) as file:
                    soundfile.write(
                        file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
                    )
                print(f"[{number}/{len(SENTENCES)}] {path}", flush=True)
            rows.append((path.name, soundfile.info(path).duration, text))
    return rows


def card(rows: list[tuple[str, float, str]], checkpoint: str) -> str:
    """The card of the sentences, in Markdown."""
    seconds = sum(row[1] for row in rows)
    table = "\n".join(f"| {name} | {duration:.2f} | {text} |" for name, duration, text in rows)
    return f"""---
license: apache-2.0
language: en
tags: [speech, synthetic]
---

# vcvae: the sentences that ship

{len(rows)} short recordings of synthetic English speech (mono Ogg Opus, 24 kHz; {seconds:.0f} s). They are the sources
of `vcvae voice` where the user gives none with `--replay`: a voice is learned while these sentences are converted to
it.

| | |
|---|---|
| synthesis | Kokoro-82M (text to speech; the int8 ONNX export of {checkpoint}), at {SPEED} of its normal speed |
| voices | one per recording: women and men, American and British; some are the mean of the styles of two voices |
| texts | written for this set: statements, questions and exclamations with all consonants and vowels of both accents |
| level | peaks of about {PEAK:.0f} dB of full scale; nothing below {LOWEST:.0f} Hz; little silence at either end |
| made by | `recipes/release/sentences.py` in the project's repository |

Kokoro-82M and its voices are under Apache-2.0, by hexgrad. The recordings and their texts are under Apache-2.0. They
are synthetic speech in the voices of a text-to-speech model.

## Limits

Read speech in English, without noise or reverberation. For a target in another language, give sources in that language.

## Texts

`a` is American and `b` British, `f` female and `m` male, followed by the name of the voice; two names are a mean of two
voices.

| file | seconds | text |
|---|---|---|
{table}
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, help="a folder for the recordings and their card")
    parser.add_argument("--checkpoint", default=REPOSITORY, help="a folder or a repository with Kokoro-82M in ONNX")
    options = parser.parse_args(arguments)
    try:
        rows = synthesize(options.checkpoint, options.destination)
    except VcvaeError as error:
        sys.exit(f"sentences.py: {error}")
    with replacing(options.destination / CARD) as file:
        file.write(card(rows, options.checkpoint).encode())
    print(f"{options.destination}: {len(rows)} sentences")


if __name__ == "__main__":
    main()
