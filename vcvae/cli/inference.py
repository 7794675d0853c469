"""The commands that use a model: recordings in, recordings and latents out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import conversions, destinations, each, recordings, say
from vcvae.cli.options import Device, Force, Model, Output, Seed, Speaks, finite, named
from vcvae.defaults import ADAPT_STEPS, CODE_BITS
from vcvae.errors import VcvaeError, check_absent, replacing


def convert(
    source: Annotated[Path | None, typer.Argument(help="A recording, or a folder of them.", parser=named)] = None,
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
        float, typer.Option(callback=finite, help="Semitones, on top of the move to the target's f0_statistics.")
    ] = 0.0,
    steps: Annotated[
        int, typer.Option(min=0, help="Of learning the target's voice from its utterances first; 0 is quick.")
    ] = ADAPT_STEPS,
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
    from vcvae.convert.converter import Converter

    if single:
        audio.check_output(jobs[0][2], force)
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    voices = {}

    def convert_one(source: Path, targets: tuple[Path, ...], output: Path) -> None:
        nonlocal voices
        if targets not in voices:
            utterances = [file for target in targets for file in recordings(target)]
            sources = [source for source, others, _ in jobs if others == targets]
            voices = {targets: converter.adapted(utterances, sources=sources, steps=steps)}
        learned, voice = voices[targets]
        learned.convert_file(source, voice, output, pitch_shift=pitch_shift, force=force)

    each(jobs, convert_one, "converted", single=single)


def vocode(
    source: Annotated[Path, typer.Argument(help="A recording, a mel (.npy), or a folder of recordings.", parser=named)],
    output: Output = None,
    vocoder: Speaks = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Take recordings apart into mels and put them together again: what the vocoder alone does to a voice."""
    jobs, single = destinations(source, output, "copy"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert.copy_synthesis import vocode
    from vcvae.environment import find_device
    from vcvae.vocoder import load_vocoder

    if single:
        audio.check_output(jobs[0][1], force)
    speaker = load_vocoder(vocoder, seed=seed).to(find_device(device)).eval()

    def copy_one(source: Path, output: Path) -> None:
        audio.check_output(output, force)
        audio.write(output, vocode(source, speaker), speaker.mel_config.sample_rate, force=force)

    each(jobs, copy_one, "reconstruction_l1", single=single)


def encode(
    source: Annotated[Path, typer.Argument(help="A recording.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy file; of --code, a .npz file.")],
    speaker: Annotated[bool, typer.Option("--speaker", help="The speaker latent, (speaker_latent,).")] = False,
    content: Annotated[bool, typer.Option("--content", help="The content latent's mean, (latent, frames).")] = False,
    mel: Annotated[bool, typer.Option("--mel", help="The ln-mel that the encoders hear, (n_mels, frames).")] = False,
    code: Annotated[
        bool, typer.Option("--code", help="The code of an auto-encoder, from which decode speaks.")
    ] = False,
    bits: Annotated[int, typer.Option(help="Of each value of the code: 8 or 16.")] = CODE_BITS,
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

    from vcvae.convert.converter import Encoder

    encoder = Encoder.from_pretrained(model, device=device)
    array = (encoder.speaker if speaker else encoder.content if content else encoder.mel)(source)
    with replacing(output) as file:
        np.save(file, array)
    say(f"{output}: float32 {array.shape}")


def _encode(source: Path, output: Path, bits: int, model: str | None, force: bool) -> None:
    from vcvae.convert import codec
    from vcvae.convert.copy_synthesis import hear
    from vcvae.models import load_autoencoder

    encoder = load_autoencoder(model)
    made = codec.encode(encoder, hear(source, encoder.config.mel)[0])
    codec.write(output, made, bits=bits, force=force)
    rate = codec.bits_per_second(made, bits, encoder.config.mel.frame_rate) / 1000
    say(f"{output}: {made.values.shape[0]} × {made.values.shape[1]} values of {bits} bits, {rate:.2f} kbit/s")


def decode(
    source: Annotated[Path, typer.Argument(help="A .npz file that encode --code wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="WAV or FLAC.")],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face repository of the auto-encoder that made it.")],
    vocoder: Speaks = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Speak what a code holds."""
    from vcvae import audio
    from vcvae.convert import codec
    from vcvae.convert.copy_synthesis import synthesize
    from vcvae.models import load_autoencoder
    from vcvae.vocoder import load_vocoder

    audio.check_output(output, force)
    decoder = load_autoencoder(model)
    mel = codec.decode(decoder, codec.read(source))
    samples = synthesize(load_vocoder(vocoder, decoder.config.mel, seed=seed).for_predicted_mels().eval(), mel)
    audio.write(output, samples, decoder.config.mel.sample_rate, force=force)
    say(str(output))


def denoise(
    source: Annotated[Path, typer.Argument(help="A recording, or a folder of them.", parser=named)],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face repository of a denoising auto-encoder.")],
    output: Output = None,
    vocoder: Speaks = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Say what SOURCE says, without the noise and the room, by a denoising auto-encoder."""
    jobs, single = destinations(source, output, "clean"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert.copy_synthesis import hear, synthesize
    from vcvae.models import load_autoencoder
    from vcvae.vocoder import load_vocoder

    if single:
        audio.check_output(jobs[0][1], force)
    denoiser = load_autoencoder(model, denoising=True)
    config = denoiser.config.mel
    speaker = load_vocoder(vocoder, config, seed=seed).for_predicted_mels().eval()

    def denoise_one(source: Path, output: Path) -> None:
        audio.check_output(output, force)
        noisy, samples = hear(source, config)
        audio.write(output, synthesize(speaker, denoiser.denoise(noisy))[:samples], config.sample_rate, force=force)

    each(jobs, denoise_one, "denoised", single=single)


def _is_for_a_pair(model: str | None) -> bool:
    """Whether the model knows its target: one that was fitted to two speakers."""
    if model is None:
        return False
    from vcvae.models.hub import describe

    return describe(model)[0] == "GMMConversion"


def _convert_own(source, output, model, vocoder, device, seed, pitch_shift, force) -> None:
    jobs, single = destinations(source, output, f"to-{Path(model).name}"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert.converter import Converter
    from vcvae.models.conversion.voice import Voice

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
    from vcvae.convert.pair import PairConverter
    from vcvae.models.classic.gmm_conversion import GMMConversion
    from vcvae.vocoder import load_vocoder

    loaded = GMMConversion.from_pretrained(model)
    converter = PairConverter(loaded, load_vocoder(vocoder, loaded.config.mel, seed=seed))

    def convert_one(source: Path, output: Path) -> None:
        converter.convert_file(source, output, pitch_shift=pitch_shift, force=force)

    each(jobs, convert_one, "converted", single=single)
