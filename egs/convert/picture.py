"""Draw the log-mels of a source, a target and their conversion, with their F0.

python egs/convert/picture.py [SOURCE TARGET CONVERTED] -o picture.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from vcvae import MelSpectrogram, audio, load_model

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, default=HERE / "source.flac")
    parser.add_argument("target", nargs="?", type=Path, default=HERE / "target.flac")
    parser.add_argument("converted", nargs="?", type=Path, default=HERE / "converted.flac")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "picture.png")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each recording to draw")
    arguments = parser.parse_args()

    model = load_model()
    config = model.config.mel
    spectrogram = MelSpectrogram(config)
    recordings = {"source": arguments.source, "target": arguments.target, "conversion": arguments.converted}
    figure, axes = plt.subplots(len(recordings), 1, figsize=(10, 7), sharex=True, layout="constrained")
    for axis, (title, path) in zip(axes, recordings.items(), strict=True):
        samples = audio.read(path, config.sample_rate)[: int(arguments.seconds * config.sample_rate)]
        with torch.inference_mode():
            mel = spectrogram(torch.from_numpy(samples)[None])
            f0 = model.f0(mel)
        extent = (0, mel.shape[2] / config.frame_rate, 0, config.n_mels)
        axis.imshow(mel[0], origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-9, vmax=1)
        axis.set(title=title, ylabel="mel band")
        f0 = torch.where(f0.voicing > 0.5, 2**f0.log_f0, torch.nan)[0]
        f0_axis = axis.twinx()
        f0_axis.plot(torch.arange(len(f0)) * 2 / config.frame_rate, f0, color="cyan", linewidth=1.5)
        f0_axis.set(ylabel="F0, Hz", ylim=(50, 400))
    axes[-1].set_xlabel("seconds")
    figure.savefig(arguments.output, dpi=80)
    print(arguments.output)


if __name__ == "__main__":
    main()
