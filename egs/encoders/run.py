"""Speaker latents cluster by speaker, content latents do not: numbers and a picture.

python egs/encoders/run.py [FOLDER] -o speakers.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from vcvae import Encoder, audio

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "voices", help="one folder per voice in it")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "speakers.png")
    arguments = parser.parse_args()

    files = audio.find(arguments.folder)
    voices = np.array([file.relative_to(arguments.folder).parts[0] for file in files])
    encoder = Encoder.from_pretrained()
    speaker = np.stack([encoder.speaker(file) for file in files])  # (files, speaker_latent)
    contents = [encoder.content(file).T for file in files]  # (frames, content_latent) each

    similarity = speaker @ speaker.T
    same = voices[:, None] == voices[None, :]
    others = ~np.eye(len(files), dtype=bool)
    nearest = voices[np.where(others, similarity, -np.inf).argmax(axis=1)]
    print(f"{len(files)} recordings, {len(set(voices))} voices")
    print(f"similarity of speaker latents within a voice: {similarity[same & others].mean():.2f}")
    print(f"                         between two voices: {similarity[~same].mean():.2f}")
    print(f"nearest other recording is the same voice: {(nearest == voices).mean():.0%}")

    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    frame_voices = voices.repeat([len(frames) for frames in contents])
    panels = {
        "speaker latents, one per recording": (speaker, voices, 40),
        "content latents, one per frame": (
            np.concatenate(contents),
            frame_voices,
            3,
        ),
    }
    for axis, (title, (latents, labels, size)) in zip(axes, panels.items(), strict=True):
        plane = principal_plane(latents)
        for voice in dict.fromkeys(voices):
            axis.scatter(*plane[labels == voice].T, label=voice, s=size)
        axis.set(title=f"{title}: principal components", xticks=[], yticks=[])
    axes[0].legend()
    figure.savefig(arguments.output, dpi=80)
    print(arguments.output)


def principal_plane(latents: np.ndarray) -> np.ndarray:
    """(points, dimensions) → (points, 2), on the two principal directions."""
    centred = latents - latents.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    return centred @ directions.T


if __name__ == "__main__":
    main()
