#!/bin/bash
# One process per GPU on as many nodes as SLURM gives: sbatch recipes/accelerate/slurm.sh recipes/vctk/conversion.yaml
# On SLURM's SIGTERM before the time limit the run saves a checkpoint; --requeue queues the job again, and the same
# command resumes.
#SBATCH --job-name=vcvae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
gpus=${SLURM_GPUS_ON_NODE:-8}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1 first gpus

# Expanded on each node, with its own SLURM_NODEID.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch \
    --config_file recipes/accelerate/two_nodes.yaml \
    --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * gpus)) \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$first" \
    -m vcvae train "$@"' bash "$@"
