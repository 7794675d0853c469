"""The page: convert, folders, voices, live. Its conversions wait in a queue; what was uploaded goes with the tab."""

from __future__ import annotations

import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path

import gradio
from fastapi import FastAPI

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice, VoiceCard
from vcvae.serve import comparison
from vcvae.serve.api import add_api, read_voice, without_folder
from vcvae.serve.limits import Limits
from vcvae.serve.session import Session, Sessions

SCRIPT = Path(__file__).with_name("page.js")
RECORDINGS = "from recordings"  # in a list of voices: none of them
MAX_FOLDER = 50  # recordings that are converted at once
KEPT = 600  # seconds after which the framework's own copies of files are deleted


class Page:
    """The functions behind the page's buttons."""

    def __init__(self, converter: Converter, sessions: Sessions, limits: Limits) -> None:
        self.converter = converter
        self.sessions = sessions
        self.limits = limits
        self._tabs: dict[str | None, str] = {}  # the framework's name of an open tab → token of its session

    def convert(self, token, source, target, voice_name, consent, shift, learn_first, progress=gradio.Progress()):  # noqa: B008
        """→ the players, the picture, the figures, and the file to download."""
        with _sentences():
            session = self._session(token)
            if not source:
                raise VcvaeError("source: missing; record one or drop a file.")
            voice = self._take_voice(session, target, voice_name, consent, learn_first, progress)
            progress(0.9, "converting")
            source = Path(source)
            self.limits.check(source)
            output = session.folder / "converted.wav"
            self.converter.convert_file(source, voice, output, pitch_shift=shift, force=True)
            rate = self.converter.mel_config.sample_rate
            recordings = {"source": audio.read(source, rate), "converted": audio.read(output, rate)}
            if target and voice_name == RECORDINGS and not str(target).endswith(".voice"):
                recordings = {"source": recordings["source"], "target": audio.read(target, rate), **recordings}
            for name, samples in recordings.items():
                if name != "converted":
                    audio.write(session.folder / f"{name}.wav", samples, rate, force=True)
            rows = comparison.figures(self.converter, recordings)
            return _players(token, list(recordings)), comparison.picture(self.converter, recordings), rows, str(output)

    def convert_folder(self, token, sources, target, voice_name, consent, shift, progress=gradio.Progress()):  # noqa: B008
        """→ a ZIP of the conversions, and what became of each."""
        with _sentences():
            session = self._session(token)
            sources = sources or []
            if not 0 < len(sources) <= MAX_FOLDER:
                raise VcvaeError(f"recordings: {len(sources)}; give 1 to {MAX_FOLDER}.")
            voice = self._take_voice(session, target, voice_name, consent, False, progress)
            folder, rows = session.folder / "folder", []
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for number, source in enumerate(map(Path, sources)):
                progress(number / len(sources), source.name)
                try:
                    self.limits.check(source)
                    output = folder / f"{number + 1:02} {source.stem}.wav"
                    self.converter.convert_file(source, voice, output, pitch_shift=shift)
                    rows.append((source.name, "converted"))
                except VcvaeError as error:
                    rows.append((source.name, without_folder(error)))
            archive = session.folder / "converted.zip"
            with zipfile.ZipFile(archive, "w") as file:
                for path in sorted(folder.iterdir()):
                    file.write(path, path.name)
            shutil.rmtree(folder)
            return str(archive), rows

    def make_voice(self, token, recordings, name, consent, learn_first, progress=gradio.Progress()):  # noqa: B008
        """→ the lists of voices, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            voice = self._take_voice(session, recordings, RECORDINGS, consent, learn_first, progress, name=name)
            return self._keep(session, name, voice)

    def draw_voice(self, token, name, seed, progress=gradio.Progress()):  # noqa: B008
        """→ the lists of voices with one that nobody has, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            progress(0.1, "drawing")
            voice = self.converter.draw(seed=int(seed or 0))
            return self._keep(session, name, replace(voice, card=replace(voice.card, name=name)))

    def mix_voices(self, token, name, first, second, weight):
        """→ the lists of voices with one between two others, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            for part in (first, second):
                if part not in session.voices:
                    raise VcvaeError("mixture: choose two voices of this tab.")
            voice = Voice.mix([session.voices[first], session.voices[second]], [1 - weight, weight])
            return self._keep(session, name, replace(voice, card=replace(voice.card, name=name)))

    def delete_voice(self, token, name):
        """→ the lists of voices."""
        with _sentences():
            session = self._session(token)
            session.voices.pop(name, None)
            return self._lists(session)

    def open(self, request: gradio.Request):
        """→ the token of a new session, twice."""
        token = self.sessions.open().token
        self._tabs[request.session_hash] = token
        return token, token

    def leave(self, request: gradio.Request):
        """The tab is closed."""
        self.sessions.close(self._tabs.pop(request.session_hash, ""))

    def note_upload(self, token, files):
        """Remember copies that the framework made, so that they go with the session."""
        session = self.sessions.find(token)
        if session and files:
            session.uploads.update(map(Path, files if isinstance(files, list) else [files]))

    def _session(self, token) -> Session:
        session = self.sessions.find(token or "")
        if session is None:
            raise VcvaeError("the page was opened too long ago; load it again.")
        return session

    def _take_voice(self, session, target, voice_name, consent, learn_first, progress, name="") -> Voice:
        if not consent:
            raise VcvaeError("consent: tick that you have the right to use this voice.")
        if voice_name and voice_name != RECORDINGS:
            if voice_name not in session.voices:
                raise VcvaeError("voice: not there any more; choose another.")
            return session.voices[voice_name]
        if not target:
            raise VcvaeError("target: missing; record one, drop a file, or choose a voice.")
        paths = [Path(path) for path in (target if isinstance(target, list) else [target])]
        for path in paths:
            self.limits.check(path)
        if not learn_first or paths[0].suffix == ".voice":
            progress(0.1, "making the voice")
            return read_voice(self.converter, paths)

        def learning(done: int, total: int | None, description: str) -> None:
            progress((done, total or VOICE_STEPS), f"learning the voice: {description}")

        return self.converter.learn(paths, card=VoiceCard(name=name), progress=learning)

    def _keep(self, session: Session, name: str, voice: Voice) -> tuple:
        """The lists of voices with a new one, and its file."""
        session.voices[name] = voice
        path = session.folder / f"voice-{len(session.voices)}.voice"
        voice.save(path)
        return *self._lists(session), str(path)

    def _lists(self, session: Session) -> tuple:
        names = list(session.voices)
        last = names[-1] if names else None
        return (
            gradio.update(choices=[RECORDINGS, *names], value=last or RECORDINGS),
            gradio.update(choices=[RECORDINGS, *names], value=last or RECORDINGS),
            *(gradio.update(choices=names, value=last) for _ in range(4)),
        )


def build(page: Page, *, concurrency: int) -> gradio.Blocks:
    """The page's layout."""
    limits = f"At most {page.limits.sentence}."
    with gradio.Blocks(title="vcvae", analytics_enabled=False, delete_cache=(60, KEPT)) as blocks:
        gradio.Markdown("# vcvae\nChange who speaks in a recording, and keep what is said.")
        token = gradio.State("")
        token_text = gradio.Textbox(visible="hidden", elem_id="token")
        rights = "I have the right to use the target's voice"
        learn_label = f"Learn the voice first, in {VOICE_STEPS} steps: closer, but takes minutes"
        queued = {"concurrency_id": "conversion", "concurrency_limit": concurrency}
        with gradio.Tab("Convert"):
            gradio.Markdown(limits)
            with gradio.Row():
                source = gradio.Audio(
                    label="Source: its words", type="filepath", elem_id="source", buttons=["download"]
                )
                target = gradio.Audio(
                    label="Target: its voice", type="filepath", elem_id="target", buttons=["download"]
                )
            with gradio.Row():
                voice = gradio.Dropdown([RECORDINGS], value=RECORDINGS, label="Voice")
                shift = gradio.Slider(-12, 12, 0, step=0.5, label="Pitch shift (semitones)")
            learn_first = gradio.Checkbox(label=learn_label)
            consent = gradio.Checkbox(label=rights, elem_id="consent")
            convert = gradio.Button("Convert", variant="primary", elem_id="convert")
            players = gradio.HTML()
            picture = gradio.Plot(label="Mels and F0", elem_id="picture")
            rows = gradio.Dataframe(headers=["recording", "length", "level", "mean F0"], interactive=False)
            download = gradio.File(label="Download", interactive=False)
        with gradio.Tab("Folder"):
            gradio.Markdown(f"{limits} Up to {MAX_FOLDER} recordings at once.")
            many = gradio.File(label="Sources", file_count="multiple", type="filepath")
            many_target = gradio.Audio(label="Target", type="filepath", buttons=["download"])
            many_voice = gradio.Dropdown([RECORDINGS], value=RECORDINGS, label="Voice")
            many_shift = gradio.Slider(-12, 12, 0, step=0.5, label="Pitch shift (semitones)")
            many_consent = gradio.Checkbox(label=rights)
            many_convert = gradio.Button("Convert all", variant="primary")
            many_rows = gradio.Dataframe(headers=["recording", "result"], interactive=False)
            archive = gradio.File(label="Download", interactive=False)
        with gradio.Tab("Voices"):
            gradio.Markdown(f"{limits} A voice stays in this tab; download it to keep it.")
            recordings = gradio.File(
                label="Recordings of one speaker, or a .voice",
                file_count="multiple",
                type="filepath",
                elem_id="recordings",
            )
            name = gradio.Textbox(label="Name", max_length=60, elem_id="voice-name")
            voice_learn_first = gradio.Checkbox(label=learn_label)
            voice_consent = gradio.Checkbox(label=rights, elem_id="voice-consent")
            make = gradio.Button("Make the voice", variant="primary", elem_id="make")
            with gradio.Row():
                seed = gradio.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
                draw = gradio.Button("Draw a voice that nobody has", elem_id="draw")
            with gradio.Row():
                first = gradio.Dropdown([], label="Between this voice …", interactive=True)
                second = gradio.Dropdown([], label="… and this one", interactive=True)
                weight = gradio.Slider(0, 1, 0.5, step=0.05, label="Weight of the second")
                mix = gradio.Button("Mix", elem_id="mix")
            voice_file = gradio.File(label="Download", interactive=False, elem_id="voice-file")
            kept = gradio.Dropdown([], label="Voices of this tab", interactive=True)
            delete = gradio.Button("Delete")
        with gradio.Tab("Live"):
            gradio.Markdown("Use headphones. Microphone in, converted out, about a quarter of a second later.")
            live_voice = gradio.Dropdown([], label="Voice, made in the tab Voices", interactive=True)
            live_shift = gradio.Slider(-12, 12, 0, step=0.5, label="Pitch shift (semitones)")
            live = gradio.Button("Start or stop", variant="primary", elem_id="live")
            gradio.HTML('<p id="live-state" role="status">stopped</p>')

        blocks.load(page.open, None, [token, token_text], api_visibility="private")
        blocks.unload(page.leave)
        private = {"api_visibility": "private"}
        inputs = [token, source, target, voice, consent, shift, learn_first]
        convert.click(page.convert, inputs, [players, picture, rows, download], **queued, **private)
        many_inputs = [token, many, many_target, many_voice, many_consent, many_shift]
        many_convert.click(page.convert_folder, many_inputs, [archive, many_rows], **queued, **private)
        lists = [voice, many_voice, kept, live_voice, first, second]
        make.click(
            page.make_voice,
            [token, recordings, name, voice_consent, voice_learn_first],
            [*lists, voice_file],
            **queued,
            **private,
        )
        draw.click(page.draw_voice, [token, name, seed], [*lists, voice_file], **queued, **private)
        mix.click(page.mix_voices, [token, name, first, second, weight], [*lists, voice_file], **private)
        delete.click(page.delete_voice, [token, kept], lists, **private)
        for component in (source, target, many, many_target, recordings):
            component.change(page.note_upload, [token, component], None, show_progress="hidden", **private)
        show = "text => { document.getElementById('live-state').textContent = text; }"
        live.click(None, [token_text, live_voice, live_shift], None, js=f"(t, v, s) => vcvae.live(t, v, s, {show})")
    blocks.queue(max_size=None)
    return blocks


def make_app(
    converter: Converter, *, max_minutes: float = 10.0, auth: tuple[str, str] | None = None, root_path: str = ""
) -> FastAPI:
    """The server: the page at /, and what programs use under /api.

    Args:
        converter: converts for all visitors.
        max_minutes: of a recording.
        auth: name and password; None for everyone.
        root_path: where a proxy shows the server.
    """
    limits, sessions = Limits(max_minutes), Sessions()
    cores = os.cpu_count() or 1
    workers = ThreadPoolExecutor(cores, thread_name_prefix="conversion")

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        yield
        sessions.close_all()
        workers.shutdown(cancel_futures=True)

    app = FastAPI(title="vcvae", lifespan=lifespan, root_path=root_path)
    app.state.sessions = sessions
    add_api(app, converter, sessions, limits=limits, workers=workers, auth=auth)
    blocks = build(Page(converter, sessions, limits), concurrency=cores)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        auth=auth,
        root_path=root_path or None,
        max_file_size=limits.max_bytes,
        footer_links=[],
        # Fonts of the visitor's system: none is fetched from another server.
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        ssr_mode=False,
        head=f"<script>{SCRIPT.read_text()}</script>",
    )


@contextmanager
def _sentences():
    """Bad input is one sentence on the page, in which names are text."""
    try:
        yield
    except VcvaeError as error:
        raise gradio.Error(escape(without_folder(error)), print_exception=False) from None


def _checked_name(name: str | None) -> str:
    """Raise a VcvaeError if a voice cannot be called so."""
    name = (name or "").strip()
    if not name or name == RECORDINGS:
        raise VcvaeError("name: missing; give the voice a name.")
    return name


def _players(token: str, names: list[str]) -> str:
    buttons = "".join(
        f'<button class="compared" onclick="vcvae.choose({i})" aria-pressed="{str(i == 0).lower()}">'
        f"{i + 1}: {name}</button> "
        for i, name in enumerate(names)
    )
    stamp = os.urandom(4).hex()  # a conversion of the same name is another file
    audios = "".join(
        f'<audio class="compared" preload="auto" src="api/session/{escape(token)}/{name}.wav?{stamp}"></audio>'
        for name in names
    )
    return (
        f'<p><button onclick="vcvae.toggle()">Play or stop (space)</button> {buttons}</p>{audios}'
        "<p>Keys 1, 2 and 3 change between them at the same position.</p>"
    )
