"""What is printed while the commands work."""

import io

import pytest
from rich.console import Console

from vcvae.cli import console

ODD = "a[/b]:smile:\x1b[2J\r.wav"
SHOWN = r"a[/b]:smile:\x1b[2J\x0d.wav"


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def printed(monkeypatch):
    """What goes to standard error where that is no terminal."""
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=console.UNFOLDED))
    return text


def test_progress_prints_the_time_left_now_and_then_where_no_terminal_is(clock, printed):
    with console.progress_bars() as add_bar:
        progress = add_bar("reading")
        learning = console.learning_progress(add_bar, advice=" (--steps 0 skips it)")
        for done in range(10):
            clock[0] = 1.0 * done
            progress(done, 1000, "reading, seconds")
        for done in range(1, 101):
            clock[0] = 8 + 2.0 * done
            learning(done, 100, "loss 0.50")
        for done in range(1, 101):
            clock[0] = 300 + done
            progress(done, None, "writing")
    assert printed.getvalue().splitlines() == [
        "reading, seconds: 5 of 1000, about 17 min left",
        "fine-tuning (loss 0.50): 29 of 100, about 2 min left (--steps 0 skips it)",
        "fine-tuning (loss 0.50): 59 of 100, about 82 s left (--steps 0 skips it)",
        "fine-tuning (loss 0.50): 89 of 100, about 22 s left (--steps 0 skips it)",
    ]


def test_progress_prints_nothing_where_it_is_not_to_be_shown(clock, printed):
    with console.progress_bars(shown=False) as add_bar:
        progress = add_bar("reading")
        for done in range(100):
            clock[0] = 1.0 * done
            progress(done, 1000, "reading, seconds")
    assert printed.getvalue() == ""


def test_learning_progress_prints_nothing_where_it_is_short(clock, printed):
    with console.progress_bars() as add_bar:
        progress = console.learning_progress(add_bar)
        for done in range(1, 5):
            clock[0] = 1.0 * done
            progress(done, 4, "")
    assert printed.getvalue() == ""


def test_learning_progress_shows_step_and_losses_on_a_terminal(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=100, force_terminal=True))
    with console.progress_bars() as add_bar:
        progress = console.learning_progress(add_bar)
        for done in range(1, 4):
            progress(done, 4, "speaker loss 0.50, content loss 0.10")
    assert "fine-tuning (speaker loss 0.50, content loss 0.10)" in text.getvalue()
    assert "3/4" in text.getvalue()
    assert "steps" not in text.getvalue()


def test_names_are_printed_as_they_are_and_change_nothing_on_a_terminal(capsys, monkeypatch):
    console.say(ODD)
    assert capsys.readouterr().out == f"{SHOWN}\n"
    console.show_table(ODD, ("a", "b"), [(ODD, 1)])
    assert capsys.readouterr().err.count(SHOWN) == 2


def test_a_message_is_no_longer_than_a_person_reads():
    sentence = f"{'x/' * 3000}: no such folder; give another\x1b."
    shown = console.printable(sentence)
    assert len(shown) == console.MAX_SENTENCE + 1
    assert shown.startswith("x/x/")
    assert shown.endswith(r": no such folder; give another\x1b.")
    assert console.printable("a\x1b.wav: silent.") == r"a\x1b.wav: silent."


def test_progress_shows_any_description_on_a_terminal(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=100, force_terminal=True))
    with console.progress_bar("converting") as progress:
        progress(1, 2, "a[/b].wav")
    assert "a[/b].wav" in text.getvalue()
