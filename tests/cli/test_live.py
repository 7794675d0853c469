import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak


@pytest.mark.slow
def test_live_simulates_with_a_file(vcvae, voices):
    code, out, _ = vcvae(
        "live", "--target", voices / "spk.wav", "--quick", "--simulate", voices / "src.wav", "-o", voices / "out.wav"
    )
    assert code == 0
    assert "latency" in out
    assert "load" in out
    samples, rate = sf.read(voices / "out.wav")
    assert (rate, len(samples)) == (RATE, RATE)
    code, _, error = vcvae(
        "live", "--target", voices / "spk.wav", "--quick", "--simulate", voices / "src.wav", "-o", voices / "out.wav"
    )
    assert code == 2
    assert "--force" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--target: missing"),
        (("--target", "a.wav", "--simulate", "b.wav"), "--simulate: needs -o"),
        (("--target", "a.wav", "--monitor", "perhaps"), "give on or off"),
        (("--target", "a.wav", "--simulate", "b.wav", "-o", "c.wav", "--input", "1"), "leave out --input"),
    ],
)
def test_live_refuses_options_that_do_not_fit(vcvae, arguments, message):
    code, _, error = vcvae("live", *arguments)
    assert code == 2
    assert message in error


@pytest.fixture
def pulseaudio(tmp_path, monkeypatch):
    """A PulseAudio server of the test's own with two null sinks, whose monitors are its microphones."""
    if not shutil.which("pulseaudio") or not shutil.which("pactl"):
        pytest.skip("no PulseAudio server here")
    pytest.importorskip("sounddevice")
    runtime = tmp_path / "pulse"
    runtime.mkdir(mode=0o700)
    for name in ("PULSE_RUNTIME_PATH", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(runtime))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{runtime}/native")
    (runtime / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    server = subprocess.Popen(
        [
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes"),
            *("-L", f"module-native-protocol-unix socket={runtime}/native auth-anonymous=1"),
            *("-L", "module-null-sink sink_name=speaker", "-L", "module-null-sink sink_name=microphone"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while subprocess.run(["pactl", "info"], capture_output=True).returncode and time.monotonic() < deadline:
        time.sleep(0.1)
    if subprocess.run(["pactl", "info"], capture_output=True).returncode:
        server.kill()
        server.wait()
        pytest.skip("a PulseAudio server cannot be started here")
    for command in (["set-default-sink", "speaker"], ["set-default-source", "microphone.monitor"]):
        subprocess.run(["pactl", *command], check=True)
    yield tmp_path
    server.terminate()
    server.wait(10)


@pytest.mark.slow
def test_live_converts_between_devices(pulseaudio):
    sf.write(pulseaudio / "src.wav", np.tile(speak("aisoeu", f0=110, seconds=2.0), 5), RATE)
    sf.write(pulseaudio / "spk.wav", speak("oeaui", f0=210, tract=1.15, seconds=1.0), RATE)
    listing = subprocess.run(
        [sys.executable, "-m", "vcvae", "live", "--list"], capture_output=True, text=True, timeout=100
    )
    if "pulse" not in listing.stderr:
        pytest.skip("PortAudio does not reach PulseAudio here")
    command = [sys.executable, "-m", "vcvae", "live", "--target", str(pulseaudio / "spk.wav"), "--quick"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "Ctrl-C" in process.stdout.readline(), process.stderr.read()
        player = subprocess.Popen(["paplay", "--device=microphone", str(pulseaudio / "src.wav")])
        with open(pulseaudio / "out.raw", "wb") as file:
            recorder = subprocess.Popen(
                ["parec", "--device=speaker.monitor", "--format=float32le", "--rate=22050", "--channels=1", "--raw"],
                stdout=file,
            )
            time.sleep(8)
            recorder.terminate()
            recorder.wait(10)
        player.terminate()
        player.wait(10)
        process.send_signal(2)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "ended" in out
    recorded = np.fromfile(pulseaudio / "out.raw", np.float32)
    assert np.abs(recorded).max() > 0.01
