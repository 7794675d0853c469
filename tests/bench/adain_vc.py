"""Speed against AdaIN-VC, side by side: training frames per second, and mel → mel of 10 s. By hand:

    python tests/bench/adain_vc.py [--threads 2]

AdaIN-VC (egs/baseline) has the published sizes (Chou et al. 2019, arXiv:1904.05742): 80 bands (4.9 M parameters) for
training, 512 bands (9 M) for conversion. Ours is the released model: for training its sizes without the postfilter,
which is trained separately; for conversion its weights, with the postfilter. The training step of AdaIN-VC is the
network's alone; ours is the whole step, with mel, F0 tracking, perturbation and optimizer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root of the repository, for egs

from egs.baseline.adain_vc import AdaINVC
from vcvae.models import load_model
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask

BATCH, FRAMES = 32, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--conversion-only", action="store_true", help="leave out the training steps")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    if not arguments.conversion_only:
        time_training(arguments.threads, arguments.rounds)
    time_conversion(arguments.threads, arguments.rounds)


def time_training(threads: int, rounds: int) -> None:
    sizes = load_model().config.model_copy(update={"postfilter_blocks": 0})
    config = ConversionConfig(output="", data={"train": "", "dev": ""}, model=sizes)
    adain_vc = AdaINVC(80)
    ours = ConversionTask(config, speakers=64)
    adain_vc_optimizer = torch.optim.Adam(adain_vc.parameters())
    model_optimizer = torch.optim.Adam(ours.model.parameters())
    discriminator_optimizer = torch.optim.Adam(ours.discriminator.parameters())
    mel = torch.randn(BATCH, 80, FRAMES)
    batch = {
        "samples": 0.1 * torch.randn(BATCH // 4, 4, FRAMES * 256),
        "bandwidth": torch.full((BATCH // 4, 4), 8000.0),
        "speaker": torch.arange(BATCH // 4),
    }

    def adain_vc_step() -> None:
        decoded, mean, log_variance = adain_vc(mel, mel)
        kl = (log_variance.exp() - 1 - log_variance + mean.square()).mean()
        ((decoded - mel).abs().mean() + kl).backward()
        update(adain_vc, adain_vc_optimizer)

    def our_step(step: int) -> None:
        totals, _ = ours(batch, step)
        for name, total in totals.items():
            total.backward(inputs=ours.parameter_groups()[name], retain_graph=name == "discriminator")
        update(ours.model, model_optimizer)
        if "discriminator" in totals:
            update(ours.discriminator, discriminator_optimizer)
        ours.after_step()

    def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    print(f"training, {threads} threads, {BATCH} × {FRAMES} frames")
    for step, phase in ((0, "as it begins"), (10**6, "with conversions and a discriminator")):
        adain_vc_seconds, our_seconds = compare(adain_vc_step, lambda step=step: our_step(step), rounds)
        adain_vc_rate = BATCH * FRAMES / adain_vc_seconds
        our_rate = BATCH * FRAMES / our_seconds
        print(f"  AdaIN-VC, {millions(adain_vc):.1f} M parameters: {adain_vc_rate:8,.0f} frames/s")
        ratio = f"{our_rate / adain_vc_rate:.2f} ×, {phase}"
        print(f"  vcvae,    {millions(ours.model):.1f} M parameters: {our_rate:8,.0f} frames/s   {ratio}")


def time_conversion(threads: int, rounds: int) -> None:
    adain_vc, model = AdaINVC(512).eval(), load_model().eval()
    adain_vc_mel = torch.randn(1, 512, 800)  # 10 s in frames of 12.5 ms
    mel = torch.randn(1, 80, 864)  # 10 s in frames of 11.6 ms
    with torch.inference_mode():
        voice = model.voice(mel)
        adain_vc_seconds, our_seconds = compare(
            lambda: adain_vc(adain_vc_mel, adain_vc_mel), lambda: model.convert(mel, model.voice(mel)), rounds
        )
        _, without_target = compare(lambda: None, lambda: model.convert(mel, voice), rounds)
    print(f"mel → mel of 10 s from 10 s of the target, {threads} threads")
    print(f"  AdaIN-VC, {millions(adain_vc):.1f} M parameters: {1e3 * adain_vc_seconds:6.1f} ms")
    ratio = f"{adain_vc_seconds / our_seconds:.2f} ×"
    print(f"  vcvae,    {millions(model):.1f} M parameters: {1e3 * our_seconds:6.1f} ms   {ratio}")
    print(f"  vcvae, with the target encoded before:   {1e3 * without_target:6.1f} ms")


def compare(first: Callable, second: Callable, rounds: int) -> tuple[float, float]:
    """Median seconds of each, measured in turns."""
    first_seconds, second_seconds = [], []
    for _ in range(rounds + 2):  # the first two warm up
        for call, seconds in ((first, first_seconds), (second, second_seconds)):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(first_seconds[2:]), statistics.median(second_seconds[2:])


def millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


if __name__ == "__main__":
    main()
