"""Write the cards of the conversion model and of the vocoder that `vcvae run recipes/release` has made.

    python recipes/release/cards.py exp/release

A card states the data, the commands, the length, the validation and the configuration of each training run behind the
weights, as the runs' folders have them, and the figures of the evaluation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vcvae.documents import read_json
from vcvae.errors import VcvaeError, replacing
from vcvae.models.hub import CARD, WEIGHTS, describe
from vcvae.training.export import environment, training_section
from vcvae.training.run_folder import last_checkpoint

CONVERSION_RUNS = ("conversion", "postfilter", "conversion_losses")
CONVERSION = """---
license: apache-2.0
library_name: vcvae
pipeline_tag: audio-to-audio
language: en
tags: [voice-conversion, disentanglement, vae]
---

# vcvae: the released conversion model

A disentangling VAE with postfilter, stored in int8, {megabytes:.1f} MB. It converts a recording to the voice of a
speaker who is not in the training data. `vcvae convert` uses it unless `--model` names another. Mel: 22.05 kHz, 80
bands to 8 kHz, HiFi-GAN's convention (`config.json`).

## Intended use, and consent

Research on voice conversion and disentanglement, and conversions to voices that one has the right to use: with the
consent of their speakers, and labelled as conversions. Not for deceiving, and not where a voice serves as proof of
identity.

## Training

`vcvae run recipes/release` in the project's repository makes these weights, with {versions}. Its runs, one after
another:

{training}

The weights are under Apache-2.0. The licence of the data asks for attribution: LibriTTS, H. Zen et al., 2019, and
LibriSpeech, V. Panayotov et al., 2015, are under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).

## Figures

{figures}

## Limits

- The content latents are not free of the speaker: the table of figures states the accuracy of linear probes, where it
  was measured.
- Trained on speech read by adults and recorded closely. Singing, children's voices, strong noise and several speakers
  at once were not measured.
- Rhythm, accent and manner of speaking stay the source's.
"""
VOCODER = """---
license: apache-2.0
library_name: vcvae
pipeline_tag: audio-to-audio
language: en
tags: [vocoder, mel, source-filter]
---

# vcvae: the released vocoder

Ln-mels (22.05 kHz, 80 bands to 8 kHz, HiFi-GAN's convention, `config.json`) to waveforms: a source-filter model whose
pulses, aspiration noise and steady noise pass through filters that a network predicts from the mel (int8,
{megabytes:.1f} MB). `vcvae convert` and `vcvae vocode` use it unless `--vocoder` names another.

## Training

`vcvae run recipes/release` in the project's repository makes these weights, with {versions}:

{training}

The weights are under Apache-2.0. The licence of the data asks for attribution: LibriTTS, H. Zen et al., 2019, and
LibriSpeech, V. Panayotov et al., 2015, are under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).

## Limits

- Speech of one voice. Two voices at once, singing and music were not measured; F0 above 500 Hz is out of range.
- Unless it is given, F0 is predicted from the mel. If the mel is too blurred, the voice is hoarse.
"""


def write_cards(output: Path) -> list[Path]:
    """Write the cards of the two models in `output`/pretrained, in place of those of the exports; their paths.

    Raises:
        VcvaeError: a run, a model or the report of the evaluation is missing.
    """
    report = read_json(output / "evaluation" / "report.json", advice="run the recipe's step 'evaluate' again")
    texts = {
        "conversion": _fill_in(CONVERSION, output, "conversion", CONVERSION_RUNS, figures=figures_table(report)),
        "vocoder": _fill_in(VOCODER, output, "vocoder", ("vocoder",)),
    }
    paths = []
    for name, text in texts.items():
        paths.append(output / "pretrained" / name / CARD)
        with replacing(paths[-1]) as file:
            file.write(text.encode())
    return paths


def _fill_in(template: str, output: Path, model: str, runs: tuple[str, ...], **values: str) -> str:
    folder = output / "pretrained" / model
    describe(folder)  # raises where there is no model
    sections = [f"### {run}\n\n{training_section(last_checkpoint(output / run))}" for run in runs]
    return template.format(
        megabytes=(folder / WEIGHTS).stat().st_size / 1e6,
        versions=environment(output / runs[-1]) or "unknown versions",
        training="\n".join(sections).strip(),
        **values,
    )


def figures_table(report: dict[str, Any]) -> str:
    """The means of an evaluation's report.json with their 95 % intervals, as a Markdown table."""
    rows = []
    for entry in report["summary"].values():
        rows.append(f"| {entry['label']} | {_interval(entry['conversions'])} | {_interval(entry['sources'])} |")
    for entry in report["speakers"].values():
        value = entry["value"]
        rows.append(f"| {entry['label']} | {_interval(value) if isinstance(value, dict) else f'{value:.3f}'} | |")
    steps = report["settings"]["steps"]
    way = f"after {steps} steps of fine-tuning on each target" if steps else "in one pass"
    return (
        f"{len(report['cases'])} conversions between unseen speakers, {way}, in the mean; brackets are 95 % bootstrap "
        "intervals.\n\n| | conversions | sources |\n|---|---|---|\n" + "\n".join(rows)
    )


def _interval(values: dict[str, float] | None) -> str:
    return f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]" if values else "–"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the recipe's folder of outputs")
    options = parser.parse_args(arguments)
    try:
        for path in write_cards(options.output):
            print(f"{path}: written")
    except VcvaeError as error:
        sys.exit(f"cards.py: {error}")


if __name__ == "__main__":
    main()
