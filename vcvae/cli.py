"""The command line. It parses, calls, and reports; heavy imports wait until a command needs them."""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vcvae.errors import VcvaeError, check_absent, replacing
from vcvae.jobs import conversions, destinations, each, out, recordings, say, show, track

app = typer.Typer(
    help="Voice conversion: change who speaks in a recording and keep what is said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise typer.BadParameter("give a finite number.")
    return value


def _path(text: str) -> Path:
    if not text:
        raise typer.BadParameter("an empty path; is a variable not set?")
    return Path(text)


Model = Annotated[str | None, typer.Option(help="Folder or Hugging Face repository; the model that ships by default.")]
Speaks = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="neural (which ships), griffin-lim, or neural:, vocos:, bigvgan: with a SOURCE, or hifigan:PATH.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the phases that Griffin-Lim starts from.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="WAV or FLAC; a folder where the source is one.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]


@app.command()
def convert(
    source: Annotated[Path | None, typer.Argument(help="A recording, or a folder of them.", parser=_path)] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of the wanted voice, or a folder of them; give several to average them. "
            "A model that adapt made has a voice of its own and needs none."
        ),
    ] = None,
    output: Output = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A table: source, target[;target…], output, with tabs between.")
    ] = None,
    model: Model = None,
    vocoder: Speaks = None,
    device: Device = "auto",
    seed: Seed = 0,
    pitch_shift: Annotated[
        float, typer.Option(callback=_finite, help="Semitones, on top of the move to the target's register.")
    ] = 0.0,
    steps: Annotated[
        int, typer.Option(min=0, help="Of learning the target's voice from its utterances first; 0 is quick.")
    ] = 30,
    force: Force = False,
) -> None:
    """Say what SOURCE says in the voice of --target."""
    if _is_for_a_pair(model):
        return _convert_pair(source, target, output, pairs, model, vocoder, seed, pitch_shift, force)
    if model and source and not target and not pairs:
        return _convert_own(source, output, model, vocoder, device, seed, pitch_shift, force)
    jobs = conversions(source, target or [], output, pairs)
    single = len(jobs) == 1 and not (pairs or source.is_dir())
    from vcvae import audio
    from vcvae.convert import Converter

    if single:
        audio.check_output(jobs[0][2], force)
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    voices = {}

    def convert_one(source: Path, targets: tuple[Path, ...], output: Path) -> None:
        nonlocal voices
        if targets not in voices:
            voices = {targets: converter.adapted([f for t in targets for f in recordings(t)], steps=steps)}
        learned, voice = voices[targets]
        learned.convert_file(source, voice, output, pitch_shift=pitch_shift, force=force)

    each(jobs, convert_one, "converted", single=single)


@app.command()
def vocode(
    source: Annotated[Path, typer.Argument(help="A recording, a mel (.npy), or a folder of recordings.", parser=_path)],
    output: Output = None,
    vocoder: Speaks = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Take recordings apart into mels and put them together again: what the vocoder alone does to a voice."""
    jobs, single = destinations(source, output, "copy"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert import find_device
    from vcvae.vocode import vocode
    from vcvae.vocoder import load_vocoder

    if single:
        audio.check_output(jobs[0][1], force)
    speaker = load_vocoder(vocoder, seed=seed).to(find_device(device)).eval()

    def copy_one(source: Path, output: Path) -> None:
        audio.check_output(output, force)
        audio.write(output, vocode(source, speaker), speaker.mel_config.sample_rate, force=force)

    each(jobs, copy_one, "copied", single=single)


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(help="A recording.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy file; of --code, a .npz file.")],
    speaker: Annotated[bool, typer.Option("--speaker", help="The speaker latent, (speaker_latent,).")] = False,
    content: Annotated[bool, typer.Option("--content", help="The content latent's mean, (latent, frames).")] = False,
    mel: Annotated[bool, typer.Option("--mel", help="The ln-mel that the encoders hear, (n_mels, frames).")] = False,
    code: Annotated[
        bool, typer.Option("--code", help="The code of an auto-encoder, from which decode speaks.")
    ] = False,
    bits: Annotated[int, typer.Option(help="Of each value of the code: 8 or 16.")] = 16,
    model: Model = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Write a recording's speaker latent, content latent or mel, float32, or its code."""
    if speaker + content + mel + code != 1:
        raise VcvaeError("encode: give one of --speaker, --content, --mel and --code.")
    if code:
        return _encode(source, output, bits, model, force)
    if output.suffix != ".npy":
        raise VcvaeError(f"{output}: an array is written as .npy; end the name so.")
    check_absent(output, force)
    import numpy as np

    from vcvae.convert import Encoder

    encoder = Encoder.from_pretrained(model, device=device)
    array = (encoder.speaker if speaker else encoder.content if content else encoder.mel)(source)
    with replacing(output) as file:
        np.save(file, array)
    say(f"{output}: float32 {array.shape}")


def _encode(source: Path, output: Path, bits: int, model: str | None, force: bool) -> None:
    from vcvae import code
    from vcvae.models import load_autoencoder
    from vcvae.vocode import hear

    encoder = load_autoencoder(model)
    made = code.encode(encoder, hear(source, encoder.config.mel)[0])
    code.write(output, made, bits=bits, force=force)
    rate = code.bits_per_second(made, bits, encoder.config.mel.frame_rate) / 1000
    say(f"{output}: {made.values.shape[0]} × {made.values.shape[1]} values of {bits} bits, {rate:.2f} kbit/s")


@app.command()
def decode(
    source: Annotated[Path, typer.Argument(help="A .npz file that encode --code wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="WAV or FLAC.")],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face repository of the auto-encoder that made it.")],
    vocoder: Speaks = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Speak what a code holds."""
    from vcvae import audio, code
    from vcvae.models import load_autoencoder
    from vcvae.vocode import speak
    from vcvae.vocoder import load_vocoder

    audio.check_output(output, force)
    decoder = load_autoencoder(model)
    mel = code.decode(decoder, code.read(source))
    samples = speak(load_vocoder(vocoder, decoder.config.mel, seed=seed).for_estimates().eval(), mel)
    audio.write(output, samples, decoder.config.mel.sample_rate, force=force)
    say(str(output))


@app.command()
def denoise(
    source: Annotated[Path, typer.Argument(help="A recording, or a folder of them.", parser=_path)],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face repository of a denoising auto-encoder.")],
    output: Output = None,
    vocoder: Speaks = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Say what SOURCE says, without the noise and the room, by a denoising auto-encoder."""
    jobs, single = destinations(source, output, "clean"), not source.is_dir()
    from vcvae import audio
    from vcvae.models import load_autoencoder
    from vcvae.vocode import hear, speak
    from vcvae.vocoder import load_vocoder

    if single:
        audio.check_output(jobs[0][1], force)
    denoiser = load_autoencoder(model, denoising=True)
    config = denoiser.config.mel
    speaker = load_vocoder(vocoder, config, seed=seed).for_estimates().eval()

    def denoise_one(source: Path, output: Path) -> None:
        audio.check_output(output, force)
        noisy, samples = hear(source, config)
        audio.write(output, speak(speaker, denoiser.denoise(noisy))[:samples], config.sample_rate, force=force)

    each(jobs, denoise_one, "denoised", single=single)


@app.command()
def prepare(
    corpus: Annotated[
        str,
        typer.Argument(help="vctk, libritts, libritts-r, librispeech, cmu-arctic, aishell3, commonvoice or folder."),
    ],
    source: Annotated[Path, typer.Argument(help="Where the corpus lies; of folder: SOURCE/speaker/*.wav|flac|mp3|…")],
    destination: Annotated[Path, typer.Argument(help="Where the prepared audio and its manifests go.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = max(1, (os.cpu_count() or 2) - 1),
    minimum: Annotated[
        float, typer.Option(min=0, callback=_finite, help="Seconds; shorter recordings are left out.")
    ] = 1.0,
    dev: Annotated[
        int | None, typer.Option(min=0, help="Speakers for validation; a tenth of them, at most 64, by default.")
    ] = None,
    test: Annotated[int | None, typer.Option(min=0, help="Speakers for the end; as many by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of these speakers.")] = 0,
    download: Annotated[bool, typer.Option("--download", help="Fetch the corpus into SOURCE first.")] = False,
    shar: Annotated[bool, typer.Option("--shar", help="Also write shards that can be streamed from a URL.")] = False,
) -> None:
    """Prepare a corpus for training: mono FLAC at 22.05 kHz, trimmed, measured, listed, and split by speaker."""
    from vcvae.data.corpora import LeftOut
    from vcvae.data.prepare import REPORT, Preparation
    from vcvae.mel import MelConfig

    if download:
        from vcvae.data.download import download

        download(corpus, source)
    work = Preparation(
        corpus,
        source,
        destination,
        sample_rate=MelConfig().sample_rate,
        minimum_seconds=minimum,
        dev=dev,
        test=test,
        seed=seed,
        jobs=jobs,
    )
    left_out = [result for result in track(work, "preparing") if isinstance(result, LeftOut)]
    if left_out:
        show("left out", ("file", "why"), left_out[:20])
        say(f"{len(left_out)} files left out, listed in {destination / REPORT}")
    splits = ", ".join(f"{name} {len(speakers)}" for name, speakers in work.splits.items())
    say(f"{destination}: {len(work) - len(left_out)} utterances; speakers: {splits}")
    if shar:
        from vcvae.data.shar import Export

        for name, speakers in work.splits.items():
            if speakers:
                export = Export(destination / name, jobs=jobs)
                for _ in track(export, f"sharding {name}"):
                    pass
                say(f"{export.folder}: {len(export)} shard{'s' * (len(export) > 1)}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file's, such as optimizer.clip=0.5.")
    ] = None,
) -> None:
    """Train what CONFIG describes. The same command again goes on from where the run stands."""
    from vcvae.config import override, read_yaml

    values = override(read_yaml(config), assignments or [])
    from vcvae.training.loop import train
    from vcvae.training.tasks import parse

    train(parse(values, where=str(config)), out)


@app.command()
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Folder or Hugging Face repository; the model that ships by default.")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="A table of conversions: id, source, targets[, transcript, reference].")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A prepared folder of unseen speakers; conversions are drawn from it.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for conversions and report.")] = Path(
        "evaluation"
    ),
    root: Annotated[Path | None, typer.Option(help="What paths in the table are relative to; else its folder.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Conversions that are drawn from --corpus.")] = 24,
    verifier: Annotated[list[str] | None, typer.Option(help="Of speakers: resemblyzer, campplus; may repeat.")] = None,
    asr: Annotated[str | None, typer.Option(help="A recogniser, such as whisper:tiny.en or whisper:FOLDER.")] = None,
    quality: Annotated[list[str] | None, typer.Option(help="dnsmos, dnsmos:FOLDER, distillmos; may repeat.")] = None,
    vocoder: Speaks = None,
    steps: Annotated[int, typer.Option(min=0, help="Of learning each target's voice first.")] = 30,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of all that is drawn.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Make conversions, measure them and what the latents tell, and write tables and a page to listen to."""
    if not (cases or corpus):
        raise VcvaeError("evaluate: give a table with --cases, or a prepared folder with --corpus, or both.")
    from vcvae.convert import Converter
    from vcvae.data.manifest import Manifest
    from vcvae.evaluate import draw_cases, load_measures, read_cases
    from vcvae.evaluate import evaluate as measure

    table = read_cases(cases, root=root) if cases else None
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    spoken = Manifest(corpus, converter.mel_config.sample_rate).utterances() if corpus else []
    chosen = table or draw_cases(spoken, count, seed=seed)
    measures, missing = load_measures(verifiers=verifier or [], asr=asr, qualities=quality or [])
    report = measure(
        converter,
        chosen,
        output,
        measures=measures,
        missing=missing,
        corpus=spoken,
        steps=steps,
        seed=seed,
        force=force,
        track=track,
    )
    say((output / "report.md").read_text(encoding="utf-8"))
    say(f"{output / 'report.html'}: written")
    if report.failed:
        raise typer.Exit(1)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The folder of a recipe, such as recipes/mini.")],
    first: Annotated[str | None, typer.Option("--from", help="The step to begin with, done or not.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last step to do.")] = None,
    source: Annotated[Path | None, typer.Option(help="Where the corpus lies, if not where the recipe says.")] = None,
    launch: Annotated[
        Path | None, typer.Option(help="An accelerate configuration; training steps are run by it.")
    ] = None,
) -> None:
    """Do all steps of a recipe, from the corpus to conversions; those that are done already are left out."""
    from vcvae.recipe import run

    run(recipe, say, first=first, last=last, source=source, launch=launch)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The output folder of a training run.")],
    destination: Annotated[Path, typer.Argument(help="A folder for the weights and their configuration.")],
    best: Annotated[bool, typer.Option("--best", help="The checkpoint that validated best, not the last.")] = False,
    force: Force = False,
) -> None:
    """Write a run's averaged weights as a model: float16 safetensors, config.json and a model card."""
    from vcvae.training.export import export

    step = export(run, destination, best=best, force=force)
    say(f"{destination}: written, as of step {step}")


@app.command()
def adapt(
    speaker: Annotated[Path, typer.Option(help="A folder of one speaker's recordings: 1 to 30 minutes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the new model.")],
    model: Annotated[
        str | None, typer.Argument(help="Folder or Hugging Face repository; the model that ships by default.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of learning the voice.")] = 300,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of what is learned when, and of which utterances judge.")] = 0,
    force: Force = False,
) -> None:
    """Teach a converter one voice: a model that converts to it without --target, in minutes on a CPU."""
    from vcvae.voice_model import make

    found = make(model, speaker, output, steps=steps, seed=seed, device=device, force=force)
    say(f"{output}: learned from {found.seconds / 60:.1f} minutes of speech in {found.utterances} pieces")
    if found.judges:
        say(f"{found.judges} of them held out and rebuilt: mel L1 {found.before:.3f} before, {found.after:.3f} after")
    else:
        say("too few pieces to hold one out: how well it was learned is not known")


@app.command()
def info(
    model: Annotated[
        str | None, typer.Argument(help="A model's folder or repository, or a run's folder; else the model that ships.")
    ] = None,
) -> None:
    """Print what a model or a training run is: sizes, parameters, mel, card; step and last figures."""
    from vcvae.info import info

    if model is None:
        from vcvae.models import RELEASED

        model = str(RELEASED)
    for name, value in info(model):
        say(f"{name}: {value}")


@app.command()
def env() -> None:
    """Print versions, devices and threads: what a bug report needs."""
    from vcvae.environment import environment

    for name, value in environment().items():
        say(f"{name}: {value}")


def main() -> None:
    """The `vcvae` command: errors that a person can mend are one sentence and exit code 2."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("vcvae: %(message)s"))
    logger = logging.getLogger("vcvae")
    logger.addHandler(handler)
    try:
        app()
    except VcvaeError as error:
        print(f"vcvae: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a name that is too long, say
        print(f"vcvae: {error.filename or 'the disk'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        logger.removeHandler(handler)  # one that stayed would write to where this call's errors went


def _is_for_a_pair(model: str | None) -> bool:
    """Whether the model knows its target: one that was fitted to two speakers."""
    if model is None:
        return False
    from vcvae.models.pretrained import describe

    return describe(model)[0] == "GMMConversion"


def _convert_own(source, output, model, vocoder, device, seed, pitch_shift, force) -> None:
    jobs, single = destinations(source, output, f"to-{Path(model).name}"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert import Converter
    from vcvae.models.voice import Voice

    if single:
        audio.check_output(jobs[0][1], force)
    voice = Voice.load(model)
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    voice = voice.to(converter.device)

    def convert_one(source: Path, output: Path) -> None:
        converter.convert_file(source, voice, output, pitch_shift=pitch_shift, force=force)

    each(jobs, convert_one, "converted", single=single)


def _convert_pair(source, target, output, pairs, model, vocoder, seed, pitch_shift, force) -> None:
    if target or pairs or not source:
        raise VcvaeError(f"--model {model}: knows its one target; give a SOURCE, and neither --target nor --pairs.")
    jobs, single = destinations(source, output, f"to-{Path(model).name}"), not source.is_dir()
    from vcvae.models.gmm_conversion import GMMConversion
    from vcvae.pair import PairConverter
    from vcvae.vocoder import load_vocoder

    loaded = GMMConversion.from_pretrained(model)
    converter = PairConverter(loaded, load_vocoder(vocoder, loaded.config.mel, seed=seed))

    def convert_one(source: Path, output: Path) -> None:
        converter.convert_file(source, output, pitch_shift=pitch_shift, force=force)

    each(jobs, convert_one, "converted", single=single)
