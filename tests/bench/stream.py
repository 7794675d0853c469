"""Time and memory of a stream. Run by hand: `python tests/bench/stream.py [--minutes 60]`.

Prints for each twelfth: CPU seconds per second of speech, the longest push of 10 ms, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch

from vcvae import Converter, audio

FOLDER = Path(__file__).parents[2] / "egs" / "convert"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    converter = Converter.from_pretrained(device="cpu")
    stream = converter.stream(converter.voice([FOLDER / "target.flac"]))
    rate = stream.sample_rate
    source = audio.read(FOLDER / "source.flac", rate)
    block, part, position = rate // 100, round(arguments.minutes * 60 * rate / 12), 0
    for number in range(12):
        began, longest, given = time.process_time(), 0.0, 0
        while given < part:
            start = time.perf_counter()
            samples = np.take(source, range(position, position + block), mode="wrap")
            stream.push(samples)
            longest = max(longest, time.perf_counter() - start)
            position, given = position + block, given + block
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        load = (time.process_time() - began) / (given / rate)
        print(f"{(number + 1) * arguments.minutes / 12:5.1f} min: load {load:.2f}, longest {1000 * longest:.0f} ms, "
              f"{memory:.0f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
