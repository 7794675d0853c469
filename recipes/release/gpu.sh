#!/bin/bash
# All weights that ship, on one GPU: recipes/release/gpu.sh /data/LibriTTS [more options of `vcvae run`]
# On eight: LAUNCH=recipes/accelerate/eight_gpus.yaml recipes/release/gpu.sh /data/LibriTTS
# The same command again goes on where it was interrupted. For several machines, and SLURM, see docs/training.md.
set -euo pipefail
source=${1:?"give the folder of the corpus"}
exec vcvae run recipes/release --source "$source" --set options.machine=gpu \
    --launch "${LAUNCH:-recipes/accelerate/one_gpu.yaml}" "${@:2}"
