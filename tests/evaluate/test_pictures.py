import matplotlib.image
import numpy as np
import pytest

from tests.synthetic import speak
from vcvae.evaluate import plot_mels, plot_speakers
from vcvae.features.mel import MelConfig


@pytest.mark.parametrize("speakers", [2, 25])
def test_plot_speakers_draws_the_same_map_each_time(tmp_path, speakers):
    random = np.random.default_rng(0)
    latents = random.standard_normal((2 * speakers, 8)).astype(np.float32)
    names = [f"s{n // 2}" for n in range(2 * speakers)]
    pictures = []
    for name in ("one", "two"):
        plot_speakers(tmp_path / f"{name}.png", latents, names, is_conversion=[n % 2 for n in range(2 * speakers)])
        pictures.append(matplotlib.image.imread(tmp_path / f"{name}.png"))
    np.testing.assert_array_equal(*pictures)
    colours = {tuple(pixel) for pixel in (255 * pictures[0][..., :3]).astype(int).reshape(-1, 3)}
    assert len(colours) > speakers


def test_plot_mels_places_mels_side_by_side(tmp_path):
    recordings = {"a": speak("aie", seconds=0.5), "b": speak("sfs", seconds=0.5)}
    plot_mels(tmp_path / "mels.png", recordings, MelConfig())
    height, width, _ = matplotlib.image.imread(tmp_path / "mels.png").shape
    assert width > 3 * height
