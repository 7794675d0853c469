"""AdaIN-VC, trained for a few steps."""

import numpy as np
import pytest
import soundfile as sf
import torch

from egs.baseline.adain_vc import REDUCTION, AdaINVC
from egs.baseline.run import CHECKPOINT, convert, main
from vcvae.models.hub import read_saved

SMALL = ("--set=steps=2", "--set=batch_speakers=2", "--set=segments=2", "--set=segment_frames=48", "--set=workers=0")


def test_adain_vc_has_the_published_size_and_keeps_the_frames():
    model = AdaINVC(80).eval()
    assert sum(x.numel() for x in model.parameters()) == pytest.approx(4.9e6, rel=0.02)
    mel = torch.randn(2, 80, 4 * REDUCTION)
    decoded, mean, log_variance = model(mel, mel)
    assert decoded.shape == mel.shape
    assert mean.shape == log_variance.shape == (2, 128, 4)


def test_conversion_has_the_level_and_the_frames_of_its_source():
    model = AdaINVC(80).eval()
    source, target = torch.randn(1, 80, 61) - 5, torch.randn(1, 80, 45) - 3
    converted = convert(model, source, [target, target])
    assert converted.shape == source.shape
    louder = convert(model, source + 1, [target])
    torch.testing.assert_close(louder, convert(model, source, [target]) + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_baseline_trains_resumes_and_converts(corpus, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(f"output: {tmp_path / 'run'}\ntrain: {corpus}\n")
    main(["train", str(tmp_path / "a.yaml"), *SMALL])
    first = read_saved(tmp_path / "run" / CHECKPOINT)
    main(["train", str(tmp_path / "a.yaml"), *SMALL, "--set=steps=3"])
    last = read_saved(tmp_path / "run" / CHECKPOINT)
    assert (first["step"], last["step"]) == (2, 3)
    assert any(not torch.equal(x, last["model"][name]) for name, x in first["model"].items())
    main(["convert", str(tmp_path / "run"), "--corpus", str(corpus), "--count", "1", "-o", str(tmp_path / "out")])
    samples, rate = sf.read(tmp_path / "out" / "0000.wav")
    assert rate == 22050
    assert 0 < np.abs(samples).max() <= 1
    with pytest.raises(SystemExit, match=f"no {CHECKPOINT} here"):
        main(["convert", str(tmp_path), "--corpus", str(corpus), "-o", str(tmp_path / "out")])
