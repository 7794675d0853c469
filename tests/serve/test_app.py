"""The page in Debian's Chromium; without it, or without playwright, these tests are skipped."""

import os
import shutil
import socket
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile as sf

from tests.synthetic import RATE

if not find_spec("gradio"):  # its import takes three seconds
    pytest.skip("the extra web is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("Chromium is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow
EGS = Path(__file__).parents[2] / "egs" / "convert"
PATIENCE = 60_000  # ms


@pytest.fixture(scope="module")
def app(released):
    from vcvae.serve.app import make_app

    return make_app(released, max_minutes=1.0)


@pytest.fixture(scope="module")
def address(app):
    import uvicorn

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with source.wav and target.wav, three seconds each, and what is no audio."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("source", "target"):
        samples, rate = sf.read(EGS / f"{name}.flac", dtype="float32")
        sf.write(folder / f"{name}.wav", samples[: 3 * rate], rate)
    (folder / "<b>no<b>.wav").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def browser(clips):
    arguments = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={clips / 'source.wav'}",
        "--autoplay-policy=no-user-gesture-required",
        "--no-sandbox",
    ]
    with playwright.sync_playwright() as runner:
        chromium = runner.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address, app):
    context = browser.new_context(permissions=["microphone"], viewport={"width": 1100, "height": 1400})
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    tab.errors = []
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.goto(address)
    tab.wait_for_function("document.querySelector('#token textarea, #token input')?.value.length > 10")
    yield tab
    assert not tab.errors
    assert app.state.sessions.count == 1
    folder = app.state.sessions.find(tab.locator("#token textarea, #token input").input_value()).folder
    context.close()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not folder.exists()  # what was uploaded or made goes with the tab


def save_picture(page, name):
    """A screenshot for the documentation, where the environment asks for it."""
    if os.environ.get("VCVAE_SCREENSHOTS"):
        page.screenshot(path=Path(os.environ["VCVAE_SCREENSHOTS"]) / f"{name}.png", full_page=name == "page-convert")


def drop(page, element, file):
    page.locator(f"#{element} input[type=file]").first.set_input_files(file)
    page.locator(f"#{element} input[type=file]").first.wait_for(state="detached")


def fill_in_voice(page, recording, name):
    """Ask for a voice of a recording, in the tab Voices."""
    page.get_by_role("tab", name="Voices").click()
    page.locator("#recordings input[type=file]").first.set_input_files(recording)
    page.locator("#voice-name input, #voice-name textarea").first.fill(name)
    page.locator("#voice-consent input").check()
    page.locator("#make").click()


def test_page_converts_shows_and_plays(page, clips):
    drop(page, "source", clips / "source.wav")
    drop(page, "target", clips / "target.wav")
    page.locator("#convert").click()
    page.get_by_text("tick that you have the right").wait_for()
    page.locator("#consent input").check()
    page.locator("#convert").click()
    page.locator("audio.compared").nth(2).wait_for(state="attached")
    page.locator("#picture img").wait_for()
    page.wait_for_function("vcvae.players().every(player => player.duration > 2.9)")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    page.wait_for_function("vcvae.players()[0].currentTime > 0.3")
    page.keyboard.press("3")
    page.wait_for_function("!vcvae.players()[2].paused && vcvae.players()[2].currentTime > 0.3")
    assert page.evaluate("vcvae.players()[0].paused")
    save_picture(page, "page-convert")
    source = page.request.get(page.locator("audio.compared").nth(2).evaluate("player => player.src"))
    assert source.ok
    assert len(source.body()) == pytest.approx(2 * 3 * RATE, rel=0.02)


def test_page_records_from_a_microphone(page):
    page.locator("#source").get_by_label("Record audio").click()
    page.locator("#source button.record-button").click()
    page.wait_for_timeout(1500)
    page.locator("#source button.stop-button").click()
    page.locator("#source input[type=file]").first.wait_for(state="detached")


def test_page_shows_a_bad_file_as_one_sentence(page, clips):
    fill_in_voice(page, clips / "<b>no<b>.wav", "x")
    page.get_by_text("not audio of a known format").wait_for()


def test_page_makes_a_voice_and_converts_live(page, clips):
    fill_in_voice(page, clips / "target.wav", "Ann <b>")
    page.locator("#voice-file").get_by_text(".voice").first.wait_for()
    page.get_by_role("tab", name="Live").click()
    page.locator("#live").click()
    page.wait_for_function("vcvae.received > 22050 && vcvae.peak > 0.01")
    page.set_viewport_size({"width": 1100, "height": 480})
    save_picture(page, "page-live")
    page.locator("#live").click()
    page.get_by_text("stopped").wait_for()
