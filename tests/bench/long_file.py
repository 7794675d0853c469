"""Memory and time of converting a long file. Run by hand: `python tests/bench/long_file.py [--minutes 60]`.

Prints the seconds that learning the voice and conversion took, and the peak of resident memory, for one minute and for
`--minutes`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile as sf

SOURCE = Path(__file__).parents[2] / "egs" / "convert"
CHILD = """
import resource, sys, time
from vcvae import Converter
converter = Converter.from_pretrained(device="cpu")
began = time.perf_counter()
voice = converter.learn([sys.argv[2]])
learned = time.perf_counter()
converter.convert_file(sys.argv[1], voice, sys.argv[3])
took, memory = time.perf_counter() - learned, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{learned - began:.1f} s to learn the voice, {took:.1f} s to convert, {memory:.0f} MB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    samples, rate = sf.read(SOURCE / "source.flac", dtype="int16")
    for minutes in (1.0, arguments.minutes):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "long.flac"
            with sf.SoundFile(source, "w", rate, 1) as file:
                for _ in range(round(minutes * 60 * rate / len(samples))):
                    file.write(samples)
            call = [sys.executable, "-c", CHILD, source, SOURCE / "target.flac", Path(folder) / "out.flac"]
            result = subprocess.run(call, capture_output=True, text=True, check=True)
            print(f"{minutes:g} min: {result.stdout.strip()}")


if __name__ == "__main__":
    main()
