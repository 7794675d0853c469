"""Seconds that a voice takes: to learn, and to convert with it. Run by hand: `python tests/bench/voice.py`.

Each is a whole command in a new process, models read from disk: `vcvae voice` on the target of egs/convert, and `vcvae
convert` of three seconds of its source. Prints wall-clock and processor seconds, and the size of the file.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile as sf

EXAMPLE = Path(__file__).parents[2] / "egs" / "convert"
SECONDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of fine-tuning; by default, those of `vcvae voice`")
    parser.add_argument("--repeat", type=int, default=3, help="conversions")
    arguments = parser.parse_args()
    steps = [] if arguments.steps is None else ["--steps", arguments.steps]
    with tempfile.TemporaryDirectory() as folder:
        voice, source = Path(folder) / "target.voice", Path(folder) / "source.wav"
        samples, rate = sf.read(EXAMPLE / "source.flac")
        sf.write(source, samples[: SECONDS * rate], rate)
        run("voice", EXAMPLE / "target.flac", "-o", voice, *steps)
        print(f"{voice.name}: {voice.stat().st_size / 1e6:.2f} MB")
        for _ in range(arguments.repeat):
            run("convert", source, "--target", voice, "-o", Path(folder) / "out.wav", "--force")


def run(*words: object) -> None:
    """Run the command, and print what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vcvae", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"vcvae {words[0]}: {wall:.1f} s, {processor:.1f} s of processors")


if __name__ == "__main__":
    main()
