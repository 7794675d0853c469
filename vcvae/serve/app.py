"""The page's layout, and the server: convert, folders, voices, live. Conversions wait in a queue."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import gradio
from fastapi import FastAPI

from vcvae.convert.converter import Converter
from vcvae.defaults import VOICE_STEPS
from vcvae.serve.api import add_api
from vcvae.serve.guard import Guard
from vcvae.serve.inputs import CheckedBlocks, delete_unfinished_uploads
from vcvae.serve.limits import Limits
from vcvae.serve.page import MAX_FOLDER, MAX_NAME, RECORDINGS, Page
from vcvae.serve.session import MAX_SESSIONS, Sessions

SCRIPT = Path(__file__).with_name("page.js")
KEPT = 600  # seconds after which the framework's own copies of files are deleted
EVERY = 60  # seconds between two looks for them
MAX_SEED = 2**32 - 1
FEW_STEPS = VOICE_STEPS // 10  # which give more than half of what all give, in a fifth of the time: docs/voices.md
LEARNING = [  # what is shown, and the steps of fine-tuning
    ("no: one pass, in seconds", 0),
    (f"{FEW_STEPS} steps: closer", FEW_STEPS),
    (f"{VOICE_STEPS} steps: closest, and takes five times as long", VOICE_STEPS),
]


def build(page: Page, *, concurrency: int) -> gradio.Blocks:
    """The page's layout."""
    limits = f"At most {page.limits.sentence}."
    with CheckedBlocks(title="vcvae", analytics_enabled=False, delete_cache=(EVERY, KEPT)) as blocks:
        gradio.Markdown("# vcvae\nChange who speaks in a recording, and keep what is said.")
        token = gradio.State("")
        token_text = gradio.Textbox(visible="hidden", elem_id="token")
        rights = "I have the right to use the target's voice"
        learn = "Learn the voice first"
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
            steps = gradio.Radio(LEARNING, value=0, label=learn)
            refine = gradio.Checkbox(label="Refine the voice to the source: some seconds more, more of the words")
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
            name = gradio.Textbox(label="Name", max_length=MAX_NAME, elem_id="voice-name")
            voice_steps = gradio.Radio(LEARNING, value=0, label=learn)
            voice_consent = gradio.Checkbox(label=rights, elem_id="voice-consent")
            make = gradio.Button("Make the voice", variant="primary", elem_id="make")
            with gradio.Row():
                seed = gradio.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed")
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
        inputs = [token, source, target, voice, consent, shift, steps, refine]
        convert.click(page.convert, inputs, [players, picture, rows, download], **queued, **private)
        many_inputs = [token, many, many_target, many_voice, many_consent, many_shift]
        many_convert.click(page.convert_folder, many_inputs, [archive, many_rows], **queued, **private)
        lists = [voice, many_voice, kept, live_voice, first, second]
        make.click(
            page.make_voice,
            [token, recordings, name, voice_consent, voice_steps],
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
    blocks.state_session_capacity = MAX_SESSIONS
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
        uploads = asyncio.create_task(delete_unfinished_uploads(every=EVERY, age=KEPT))
        yield
        uploads.cancel()
        sessions.close_all()
        workers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="vcvae", lifespan=lifespan, root_path=root_path, openapi_url=None)
    app.add_middleware(Guard, limits=limits, max_uploads=MAX_FOLDER)
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
