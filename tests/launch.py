"""How tests run a command in two processes, in the repository: `[*LAUNCH, *TWO_CPUS, "-m", "vcvae", …]`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
TWO_CPUS = ["--config_file", str(ROOT / "recipes" / "accelerate" / "two_cpus.yaml")]
