"""The functions behind the page's buttons; what was uploaded goes with the tab."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path

import gradio

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice
from vcvae.progress import Progress
from vcvae.serve import comparison
from vcvae.serve.api import read_voice, without_folder
from vcvae.serve.limits import Limits
from vcvae.serve.session import Session, Sessions

RECORDINGS = "from recordings"  # in a list of voices: none of them
MAX_FOLDER = 50  # recordings that are converted at once
MAX_VOICES = 100  # of a tab
MAX_NAME = 60  # characters of a voice's name


class Page:
    """The functions behind the page's buttons."""

    def __init__(self, converter: Converter, sessions: Sessions, limits: Limits) -> None:
        self.converter = converter
        self.sessions = sessions
        self.limits = limits
        self._tabs: dict[str | None, str] = {}  # the framework's name of an open tab → token of its session

    def convert(self, token, source, target, voice_name, consent, shift, steps, refine, progress=gradio.Progress()):  # noqa: B008
        """→ the players, the picture, the figures, and the file to download."""
        with _sentences():
            session = self._session(token)
            if not source:
                raise VcvaeError("source: missing; record one or drop a file.")
            source = Path(source)
            self.limits.check(source)
            voice = self._take_voice(session, target, voice_name, consent, steps, progress, sources=[source])
            if refine:
                voice = self.converter.refine(voice, source, progress=_shown(progress, "refining the voice"))
            progress(0.9, "converting")
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
            voice = self._take_voice(session, target, voice_name, consent, 0, progress)
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

    def make_voice(self, token, recordings, name, consent, steps, progress=gradio.Progress()):  # noqa: B008
        """→ the lists of voices, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            voice = self._take_voice(session, recordings, RECORDINGS, consent, steps, progress)
            return self._keep(session, name, voice)

    def draw_voice(self, token, name, seed, progress=gradio.Progress()):  # noqa: B008
        """→ the lists of voices with one that nobody has, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            progress(0.1, "drawing")
            voice = self.converter.draw(seed=int(seed or 0))
            return self._keep(session, name, voice)

    def mix_voices(self, token, name, first, second, weight):
        """→ the lists of voices with one between two others, and the file to download."""
        with _sentences():
            session, name = self._session(token), _checked_name(name)
            for part in (first, second):
                if part not in session.voices:
                    raise VcvaeError("mixture: choose two voices of this tab.")
            voice = Voice.mix([session.voices[first], session.voices[second]], [1 - weight, weight])
            return self._keep(session, name, voice)

    def delete_voice(self, token, name):
        """→ the lists of voices."""
        with _sentences():
            session = self._session(token)
            session.voices.pop(name, None)
            return self._lists(session)

    def open(self, request: gradio.Request):
        """→ the token of a new session, twice."""
        token = self.sessions.open().token
        self.sessions.close(self._tabs.get(request.session_hash, ""))
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

    def _take_voice(
        self, session, target, voice_name, consent, steps, progress, *, sources: Sequence[Path] = ()
    ) -> Voice:
        """The voice that is chosen, or that of the target's recordings, learned with `sources`."""
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
        if not steps or paths[0].suffix == ".voice":
            progress(0.1, "making the voice")
            return read_voice(self.converter, paths)
        learning = _shown(progress, "learning the voice")
        return self.converter.learn(paths, sources=sources, steps=steps, progress=learning)

    def _keep(self, session: Session, name: str, voice: Voice) -> tuple:
        """The lists of voices with a new one, and its file; `name` is that of the file's card, too."""
        if len(session.voices) >= MAX_VOICES and name not in session.voices:
            raise VcvaeError(f"voices: there are {MAX_VOICES} already; delete one.")
        voice = replace(voice, card=replace(voice.card, name=name))
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


def _shown(progress: gradio.Progress, what: str) -> Progress:
    """Progress in steps of fine-tuning, on the page."""
    return lambda done, total, description: progress((done, total), f"{what}: {description}")


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
    if len(name) > MAX_NAME or not name.isprintable():
        raise VcvaeError(f"name: give one line of at most {MAX_NAME} characters.")
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
