"""Draw the log-mels of a source, a target and the conversion between them, with their F0.

python egs/convert/picture.py [SOURCE TARGET] -o picture.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from vcvae import Converter, audio

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, default=HERE / "source.flac")
    parser.add_argument("target", nargs="?", type=Path, default=HERE / "target.flac")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "picture.png")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each recording to draw")
    arguments = parser.parse_args()

    converter = Converter.from_pretrained()
    rate = converter.mel_config.sample_rate
    converted, _ = converter.convert(arguments.source, arguments.target)
    recordings = {
        "source": audio.read(arguments.source, rate),
        "target": audio.read(arguments.target, rate),
        "conversion": converted,
    }
    figure, axes = plt.subplots(len(recordings), 1, figsize=(10, 7), sharex=True, layout="constrained")
    for axis, (title, samples) in zip(axes, recordings.items(), strict=True):
        samples = torch.from_numpy(samples[: int(arguments.seconds * rate)]).to(converter.device)[None]
        with torch.inference_mode():
            mel = converter.spectrogram(samples)
            f0 = converter.model.f0(mel)
        extent = (0, mel.shape[2] / converter.mel_config.frame_rate, 0, converter.mel_config.n_mels)
        axis.imshow(mel[0].cpu(), origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-9, vmax=1)
        axis.set(title=title, ylabel="mel band")
        f0 = torch.where(f0.voicing > 0.5, 2**f0.log_f0, torch.nan)[0].cpu()
        f0_axis = axis.twinx()
        f0_axis.plot(torch.arange(len(f0)) * 2 / converter.mel_config.frame_rate, f0, color="cyan", linewidth=1.5)
        f0_axis.set(ylabel="F0, Hz", ylim=(50, 400))
    axes[-1].set_xlabel("seconds")
    figure.savefig(arguments.output, dpi=80)
    print(arguments.output)


if __name__ == "__main__":
    main()
