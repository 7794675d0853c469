import json
import math
from dataclasses import replace

import pytest
import torch

from vcvae import load_model
from vcvae.errors import VcvaeError
from vcvae.features.f0 import MAX_F0, MIN_F0, F0Statistics
from vcvae.features.mel import level
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.encoders import ContentEncoder, F0Encoder
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice

CONFIG = DisentanglingConfig(
    fast_channels=24, slow_channels=32, content_latent=8, speaker_latent=16, speaker_channels=24, f0_channels=16
)
WITH_STATISTICS = CONFIG.model_copy(update={"speaker_statistics": 20, "statistics_latent": 6, "conditional_rank": 4})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DisentanglingVAE(CONFIG).eval()


def speechlike(batch, frames, seed=0):
    """Log-mels with the level and the slope of speech."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 80, frames, generator=generator) - torch.linspace(3, 8, 80)[:, None]


def test_vae_defaults_are_within_their_size():
    assert sum(p.numel() for p in DisentanglingVAE().parameters()) <= 5e6


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 101])
def test_vae_keeps_any_length(model, frames):
    mel = speechlike(2, frames)
    posterior = model.content(mel)
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 8, math.ceil(frames / 4))
    assert model.f0(mel).log_f0.shape == (2, math.ceil(frames / 2))
    converted = model.convert(mel, model.voice(mel))
    assert converted.shape == mel.shape
    assert converted.isfinite().all()


def test_vae_ignores_padding(model):
    short, long = speechlike(1, 37, seed=1), speechlike(1, 61, seed=2)
    batch = torch.full((2, 80, 61), 7.0)  # padding may hold anything
    batch[0, :, :37], batch[1] = short[0], long[0]
    lengths = torch.tensor([37, 61])
    voice = model.voice(speechlike(1, 50))
    together = model.convert(batch, voice, lengths=lengths)
    content, speaker = model.content(batch, lengths), model.speaker(batch, lengths)
    for i, mel in enumerate([short, long]):
        frames = mel.shape[2]
        alone = model.content(mel)
        latents = math.ceil(frames / 4)
        torch.testing.assert_close(content.mean[i, :, :latents], alone.mean[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(content.log_variance[i, :, :latents], alone.log_variance[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(speaker[i], model.speaker(mel)[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together[i, :, :frames], model.convert(mel, voice)[0], atol=1e-3, rtol=1e-3)
    assert (content.mean[0, :, 10:] == 0).all()
    voices = model.voice(batch, lengths)
    alone = Voice.join([model.voice(short), model.voice(long)])
    torch.testing.assert_close(model.convert(long, voices[:1]), model.convert(long, alone[:1]), atol=1e-3, rtol=1e-3)
    assert (together[0, :, 37:] == math.log(CONFIG.mel.floor)).all()


def test_vae_batch_is_its_items(model):
    mel = speechlike(3, 40)
    voices = model.voice(mel.flip(0))
    together = model.convert(mel, voices)
    for i in range(3):
        alone = model.convert(mel[i : i + 1], voices[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], atol=1e-3, rtol=1e-3)


def test_gain_changes_the_output_level_and_no_latent(model):
    mel, gain = speechlike(1, 60), math.log(3.0)
    voice, louder = model.voice(mel), model.voice(mel + gain)
    torch.testing.assert_close(louder.reference.embedding, voice.reference.embedding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.content(mel + gain).mean, model.content(mel).mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.convert(mel + gain, voice), model.convert(mel, voice) + gain, atol=1e-3, rtol=1e-3)
    bands, converted = slice(CONFIG.encoder_bands), model.convert(mel, voice)
    torch.testing.assert_close(level(converted[:, bands]), level(mel[:, bands]), atol=1e-4, rtol=1e-4)


def test_content_ignores_a_fixed_equalizer(model):
    torch.manual_seed(1)
    mel, equalizer = speechlike(1, 60), 0.5 * torch.randn(1, 80, 1)
    torch.testing.assert_close(model.content(mel + equalizer).mean, model.content(mel).mean, atol=1e-4, rtol=1e-4)


def test_content_mean_and_std_are_the_same_for_all_utterances(model):
    with torch.no_grad():
        model.content.scale.copy_(torch.linspace(0.1, 2, 8))
    for frames, lengths in ((64, None), (160, torch.tensor([90, 160]))):
        means = model.content(speechlike(2, frames, seed=frames), lengths).mean
        for mean, count in zip(means, lengths if lengths is not None else (frames, frames), strict=True):
            unpadded = mean[:, : -(-int(count) // 4)]
            torch.testing.assert_close(unpadded.mean(dim=1), torch.zeros(8), atol=1e-5, rtol=0)
            torch.testing.assert_close(
                unpadded.std(dim=1, correction=0), model.content.scale.data, atol=1e-4, rtol=1e-4
            )


def test_centred_speaker_latents_have_no_common_mean(model):
    """In training the centre approaches the mean of the latents, in evaluation it does not change."""
    mels, speaker = torch.cat([speechlike(1, 60, seed=seed) for seed in range(6)]), model.speaker
    latents = speaker(mels)
    torch.testing.assert_close(speaker.centred(latents), latents)
    speaker.train()
    for _ in range(600):
        speaker(mels)
    speaker.eval()
    torch.testing.assert_close(speaker(mels), latents)
    torch.testing.assert_close(speaker.centre, latents.mean(dim=0), atol=0.01, rtol=0)
    centred = speaker.centred(latents)
    torch.testing.assert_close(centred.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(model.centred_embedding(model.voice(mels)), centred)
    assert (centred @ centred.T).mean() < 0.1 < (latents @ latents.T).mean()


@pytest.mark.parametrize("kind", [ContentEncoder, F0Encoder])
def test_content_and_f0_ignore_bands_above_their_limit(kind):
    torch.manual_seed(0)
    encoder, mel = kind(CONFIG).eval(), speechlike(1, 30)
    low_passed = mel.clone()
    low_passed[:, CONFIG.encoder_bands :] = -11.5
    for a, b in zip(vars(encoder(mel)).values(), vars(encoder(low_passed)).values(), strict=True):
        torch.testing.assert_close(a, b)
    assert CONFIG.encoder_bands == 68


def test_speaker_depends_on_the_valid_bands_alone(model):
    mel, valid_bands = speechlike(2, 30), torch.ones(2, 80)
    low_passed = mel.clone()
    low_passed[:, 70:] = -11.5
    assert not torch.allclose(model.speaker(mel), model.speaker(low_passed), atol=1e-3)
    valid_bands[:, 70:] = 0
    torch.testing.assert_close(
        model.speaker(mel, valid_bands=valid_bands), model.speaker(low_passed, valid_bands=valid_bands)
    )
    voices = [model.voice(x, valid_bands=valid_bands).reference for x in (mel, low_passed)]
    torch.testing.assert_close(voices[0].values, voices[1].values)
    # Silence in a valid band is not the same as an invalid band.
    assert not torch.allclose(model.speaker(low_passed, valid_bands=valid_bands), model.speaker(low_passed), atol=1e-3)


def test_convert_transfers_f0_to_the_voice(model):
    mel, target = speechlike(1, 40, seed=3), speechlike(1, 40, seed=4)
    voice = model.voice(target)
    decoder_f0 = []
    model.decoder.register_forward_pre_hook(lambda module, arguments: decoder_f0.append(arguments[2]))
    source = model.f0(mel)

    def statistics(mean, std):
        return F0Statistics(torch.tensor([mean]), torch.tensor([std]))

    source_statistics = statistics(7.0, 0.2)
    for f0_statistics, shift, expected in (
        (statistics(7.5, 0.2), 6.0, source.log_f0 + 1.0),
        (statistics(7.0, 0.25), 0.0, 7 + 1.25 * (source.log_f0 - 7)),
        (statistics(torch.nan, torch.nan), 0.0, source.log_f0),  # a voice without F0 statistics changes nothing
        (source_statistics, 60.0, source.log_f0 + 5.0),  # clamped to MAX_F0
    ):
        target_f0 = model.target_f0(
            mel, replace(voice, f0_statistics=f0_statistics), f0_statistics=source_statistics, pitch_shift=shift
        )
        torch.testing.assert_close(target_f0.log_f0, expected.clamp(math.log2(MIN_F0), math.log2(MAX_F0)))
        model.convert(mel, voice, target_f0=target_f0)
        assert decoder_f0[-1] is target_f0
    model.convert(mel, voice)
    torch.testing.assert_close(decoder_f0[-1].log_f0, model.target_f0(mel, voice).log_f0)


def test_voice_average_is_a_voice(model):
    voices = model.voice(speechlike(3, 40))
    statistics = F0Statistics(torch.tensor([7.0, torch.nan, 8.0]), torch.tensor([0.1, torch.nan, 0.3]))
    average = replace(voices, f0_statistics=statistics).average()
    torch.testing.assert_close(average.reference.embedding.norm(dim=-1), torch.ones(1))
    assert average.f0_statistics.mean.item() == pytest.approx(7.5)
    assert average.f0_statistics.std.item() == pytest.approx(0.2)
    assert average.reference.keys.shape == (1, 3 * 10, CONFIG.content_latent)


def test_statistics_change_the_conversion_by_their_direction_alone():
    torch.manual_seed(0)
    model, mel, statistics = DisentanglingVAE(WITH_STATISTICS).eval(), speechlike(1, 40), torch.randn(2, 20)
    model.statistics.centre += 1.0
    one, other = (model.voice(mel, statistics=model.statistics.centre + x) for x in statistics.split(1))
    louder = model.voice(mel, statistics=model.statistics.centre + 3 * statistics[:1])
    unknown = model.voice(mel)
    torch.testing.assert_close(model.convert(mel, louder), model.convert(mel, one), atol=1e-4, rtol=1e-4)
    assert (model.convert(mel, other) - model.convert(mel, one)).abs().max() > 1e-3
    torch.testing.assert_close(unknown.reference.statistics, torch.zeros(1, 6))
    assert model.convert(mel, unknown).isfinite().all()
    both = Voice.join([one, other]).average().reference
    torch.testing.assert_close(both.statistics, (one.reference.statistics + other.reference.statistics) / 2)


def test_reference_frames_are_an_unordered_set(model):
    """Neither the order of frames nor padding matters; the pairing of keys and values does."""
    mel, reference = speechlike(1, 40), model.voice(speechlike(1, 80, seed=5)).reference
    assert reference.keys.shape[1] == reference.values.shape[1] == 20
    attend = model.decoder.cross_attention[0]
    attend.key.kernel = 1  # keys of one frame, as those of three depend on the order
    attend.key.linear = torch.nn.Linear(CONFIG.content_latent, CONFIG.slow_channels)
    x = torch.randn(1, 10, CONFIG.slow_channels)
    expected = attend(x, None, reference.keys, reference.values, reference.mask)
    shuffled = torch.randperm(20)
    torch.testing.assert_close(attend(x, None, reference.keys[:, shuffled], reference.values[:, shuffled]), expected)
    assert not torch.allclose(attend(x, None, reference.keys, reference.values[:, shuffled]), expected, atol=1e-3)
    other = model.voice(speechlike(1, 30, seed=6)).reference
    padded = SpeakerReference.join([other, reference])[:1]
    f0 = model.f0(mel)
    torch.testing.assert_close(
        *(model.decoder(model.content(mel).mean, t, f0, frames=40) for t in (padded, other)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("shape", [(80, 10), (1, 79, 10), (1, 80, 0)])
def test_vae_refuses_a_wrong_shape_in_one_sentence(model, shape):
    with pytest.raises(VcvaeError, match=r"a mel must be \(batch, 80, frames ≥ 1\)"):
        model.content(torch.randn(shape))


@pytest.mark.parametrize("half", [False, True])
def test_vae_is_the_same_after_saving_and_loading(model, tmp_path, half):
    mel = speechlike(1, 40)
    (model.half() if half else model).save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == CONFIG
    expected = model.float().convert(mel, model.voice(mel))
    torch.testing.assert_close(loaded.convert(mel, loaded.voice(mel)), expected)


def test_load_model_refuses_what_is_no_model_in_one_sentence(model, tmp_path):
    with pytest.raises(VcvaeError, match=r"no config\.json"):
        load_model(tmp_path)
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"class": "GaussianMixture"}))
    with pytest.raises(VcvaeError, match="holds GaussianMixture, where DisentanglingVAE"):
        load_model(tmp_path)
    config.write_text(json.dumps(values | {"slow_chanels": 1}))
    with pytest.raises(VcvaeError, match="did you mean 'slow_channels'"):
        load_model(tmp_path)
    config.write_text(json.dumps(values | {"slow_channels": 40}))
    with pytest.raises(VcvaeError, match=r"is \(16, 32\) here and \(16, 40\) by config.json"):
        load_model(tmp_path)
    config.write_text("[]")
    with pytest.raises(VcvaeError, match="not the JSON that belongs there"):
        load_model(tmp_path)
    config.write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match=r"model\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(VcvaeError, match="neither a folder nor a repository"):
        load_model("no/such/place")


def test_load_model_says_at_once_that_there_is_no_network(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("name or service not known")

    monkeypatch.setattr("vcvae.models.hub.get_hf_file_metadata", fail)
    monkeypatch.setattr("vcvae.models.hub.hf_hub_download", lambda *_, **__: pytest.fail("tried to download"))
    with pytest.raises(VcvaeError, match=r"someone/voices: not a folder, and Hugging Face cannot be reached \(name or"):
        load_model("someone/voices")


def test_load_model_fetches_a_hub_repository_file_by_file(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    asked = []

    def download(repository, name, **options):
        asked.append((repository, name, options))
        return str(tmp_path / name)

    monkeypatch.setattr("vcvae.models.hub.hf_hub_download", download)
    monkeypatch.setattr("vcvae.models.hub.get_hf_file_metadata", lambda *_, **__: None)
    loaded = DisentanglingVAE.from_pretrained("someone/voices", revision="v1")
    assert loaded.config == CONFIG
    assert asked == [("someone/voices", name, {"revision": "v1"}) for name in ("config.json", "model.safetensors")]


def test_save_writes_a_card_and_keeps_an_existing_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert "DisentanglingVAE" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("edited")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "edited"
