"""The commands that make a model, one after another, on generated speakers."""

import yaml

from tests.corpus import TINY, make_corpus


def test_prepare_train_export_convert(vcvae, voices, tmp_path):
    make_corpus(tmp_path / "corpus", speakers=2)
    code, out, _ = vcvae("prepare", "folder", tmp_path / "corpus" / "source", tmp_path / "ready", "--jobs", 1)
    assert code == 0
    assert "4 utterances; speakers: train 2, dev 0, test 0" in out
    config = {
        "task": "conversion",
        "output": str(tmp_path / "run"),
        "data": dict.fromkeys(("train", "dev"), str(tmp_path / "ready" / "train")),
        "batch_speakers": 2,
        "segment_frames": 16,
        "workers": 0,
        "validation_speakers": 2,
        "model": TINY,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert vcvae("train", tmp_path / "config.yaml", "--set", "steps=1")[0] == 0
    assert vcvae("export", tmp_path / "run", tmp_path / "model")[0] == 0
    assert (tmp_path / "model" / "README.md").exists()
    code, _, err = vcvae("export", tmp_path / "run", tmp_path / "model")
    assert code == 2
    assert "--force" in err
    code, _, err = vcvae("export", tmp_path / "run", voices / "src.wav")
    assert code == 2
    assert err.count("\n") == 1
    code, _, err = vcvae("train", tmp_path / "config.yaml", "--set", f"output={voices / 'src.wav'}/x")
    assert code == 2
    assert "cannot be written" in err
    arguments = ("convert", voices / "src.wav", "--target", voices / "spk.wav", "--model", tmp_path / "model")
    assert vcvae(*arguments)[0] == 0
