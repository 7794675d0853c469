"""The commands that use a model, on two generated voices."""

import numpy as np
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.convert.converter import Converter


def test_the_result_lies_beside_the_source(vcvae, voices):
    code, out, err = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav")
    assert (code, err) == (0, "")
    assert out.strip() == str(voices / "src.to-spk.wav")
    samples, rate = sf.read(voices / "src.to-spk.wav")
    assert (len(samples), rate) == (RATE, RATE)
    assert sf.info(voices / "src.to-spk.wav").subtype == "PCM_16"
    code, _, err = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav")
    assert code == 2
    assert "--force" in err
    assert vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav", "--force")[0] == 0


def test_several_targets_and_a_flac(vcvae, voices):
    targets = ("--target", voices / "spk.wav", "--target", voices / "src.wav")
    code, _, _ = vcvae("convert", voices / "src.wav", *targets, "-o", voices / "out.flac", "--seed", 3)
    assert code == 0
    assert sf.info(voices / "out.flac").format == "FLAC"


def test_folders_go_on_past_a_bad_file(vcvae, voices):
    talks, speaker = voices / "talks" / "day 1", voices / "speaker"
    talks.mkdir(parents=True)
    speaker.mkdir()
    for name in ("a.flac", "b.wav"):
        sf.write(talks / name, speak("uao", seconds=0.7), RATE)
    (talks / "broken.wav").write_text("no audio")
    sf.write(speaker / "1.wav", speak("oeaui", f0=210, seconds=1.0), RATE)
    code, out, err = vcvae("convert", voices / "talks", "--target", speaker, "-o", voices / "out")
    assert code == 1
    assert "2 of 3 converted" in out
    assert "broken.wav" in err.replace("\n", "")
    assert sorted(p.name for p in (voices / "out").rglob("*.*")) == ["a.wav", "b.wav"]
    assert (voices / "out" / "day 1" / "a.wav").exists()


def test_a_voice_is_learned_once_while_all_of_a_folder_is_rehearsed(vcvae, voices):
    talks = voices / "talks"
    talks.mkdir()
    (talks / "a.wav").write_text("no audio")
    (voices / "src.wav").rename(talks / "b.wav")
    sf.write(talks / "c.wav", speak("uao", seconds=0.7), RATE)
    learning = ("--target", voices / "spk.wav", "--steps", 2, "--device", "cpu")
    code, out, _ = vcvae("convert", talks, *learning, "-o", voices / "out")
    assert (code, "2 of 3 converted" in out) == (1, True)
    converter, voice = Converter.from_pretrained(device="cpu").adapted(
        [voices / "spk.wav"], sources=[talks / "b.wav", talks / "c.wav"], steps=2
    )
    for name in ("b.wav", "c.wav"):
        converter.convert_file(talks / name, voice, voices / name)
        assert (voices / name).read_bytes() == (voices / "out" / name).read_bytes()
    vcvae("convert", talks / "b.wav", *learning, "-o", voices / "alone.wav")
    assert (voices / "alone.wav").read_bytes() != (voices / "b.wav").read_bytes()


def test_files_of_one_stem_do_not_overwrite_each_other(vcvae, voices):
    (voices / "talks").mkdir()
    for name in ("a.wav", "a.flac", "b.wav"):
        sf.write(voices / "talks" / name, speak("uao", seconds=0.7), RATE)
    assert vcvae("convert", voices / "talks", "--target", voices / "spk.wav", "-o", voices / "out")[0] == 0
    assert sorted(p.name for p in (voices / "out").iterdir()) == ["a.flac.wav", "a.wav.wav", "b.wav"]


def test_the_folder_one_is_in_can_be_the_source(vcvae, voices, monkeypatch):
    (voices / "here").mkdir()
    sf.write(voices / "here" / "a.wav", speak("uao", seconds=0.7), RATE)
    monkeypatch.chdir(voices / "here")
    assert vcvae("convert", ".", "--target", "../spk.wav")[0] == 0
    assert (voices / "here.to-spk" / "a.wav").exists()


def test_tables_as_spreadsheets_write_them(vcvae, voices):
    src, spk, table = voices / "src.wav", voices / "spk.wav", voices / "pairs.tsv"
    table.write_bytes(f"\ufeff{src} \t {spk}\t{voices}/1.wav\r\n".encode())
    assert vcvae("convert", "--pairs", table)[0] == 0
    table.write_text(f"{src}\0\t{spk}\t{voices}/2.wav\n{src}\t{spk}\t{voices}/3.wav\n")
    code, out, _ = vcvae("convert", "--pairs", table)
    assert (code, out) == (1, "1 of 2 converted\n")


def test_paths_are_printed_as_they_are(vcvae, voices):
    name = voices / "a:dog:[red].wav"
    code, out, _ = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav", "-o", name)
    assert code == 0
    assert out.strip() == str(name)


def test_pairs(vcvae, voices):
    table = voices / "pairs.tsv"
    src, spk = voices / "src.wav", voices / "spk.wav"
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n\n{src}\t{spk};{src}\t{voices}/out/2.wav\n")
    code, out, _ = vcvae("convert", "--pairs", table)
    assert code == 0
    assert "2 of 2" in out
    first, second = (sf.read(voices / "out" / f"{i}.wav")[0] for i in (1, 2))
    assert len(first) == len(second)
    assert not np.allclose(first, second)
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n{voices}/nowhere.wav\t{spk}\t{voices}/out/3.wav\n")
    code, out, err = vcvae("convert", "--pairs", table, "--force")
    assert code == 1
    assert "1 of 2" in out
    assert "nowhere.wav" in err.replace("\n", "")
    assert not (voices / "out" / "3.wav").exists()


def test_latents_are_written(vcvae, voices):
    assert vcvae("encode", voices / "spk.wav", "--speaker", "-o", voices / "a.npy")[0] == 0
    assert vcvae("encode", voices / "spk.wav", "--content", "-o", voices / "b.npy")[0] == 0
    speaker, content = np.load(voices / "a.npy"), np.load(voices / "b.npy")
    assert speaker.dtype == content.dtype == np.float32
    assert speaker.ndim == 1
    assert content.shape[1] == 22


def test_copies_of_a_file_a_folder_and_a_mel(vcvae, voices):
    code, out, _ = vcvae("vocode", voices / "src.wav")
    assert (code, out.strip()) == (0, str(voices / "src.copy.wav"))
    assert sf.info(voices / "src.copy.wav").frames == RATE
    assert vcvae("vocode", voices / "src.wav")[0] == 2  # it exists
    assert vcvae("encode", voices / "src.wav", "--mel", "-o", voices / "src.npy")[0] == 0
    assert vcvae("vocode", voices / "src.npy", "-o", voices / "from-mel.flac")[0] == 0
    assert sf.info(voices / "from-mel.flac").frames == -(-RATE // 256) * 256
    (voices / "talks").mkdir()
    (voices / "src.wav").rename(voices / "talks" / "a.wav")
    (voices / "talks" / "b.wav").write_text("no audio")
    code, out, err = vcvae("vocode", voices / "talks", "-o", voices / "copies", "--vocoder", "griffin-lim")
    assert code == 1
    assert "1 of 2 reconstruction_l1" in out
    assert "b.wav" in err.replace("\n", "")
    assert sf.info(voices / "copies" / "a.wav").frames == RATE
