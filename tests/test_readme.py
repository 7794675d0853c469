"""What README, docs, cards and all other pages show is true: Python runs, commands and options exist, links work."""

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from vcvae.cli import app
from vcvae.convert import learner
from vcvae.convert.finetune import finetune, refine
from vcvae.pretrained import SENTENCES

ROOT = Path(__file__).parents[1]
SKIPPED = {".venv", ".git", ".pytest_cache", "exp", "node_modules"}
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in sorted(ROOT.rglob("*.md"))
    if not SKIPPED & set(page.relative_to(ROOT).parts)
}
README = PAGES["README.md"]
CARDS = [name for name in PAGES if name.startswith("vcvae/")]
COMMANDS = get_command(app).commands

PYTHON = re.compile(r"```python\n(.*?)```", re.S)
COMMAND_LINE = re.compile(r"^(?:    |\$ |\.venv/bin/|.*&& \.venv/bin/)vcvae (.*)$", re.M)
COMMAND_IN_TEXT = re.compile(r"`vcvae ([a-z]+)\b([^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def links(text: str) -> list[str]:
    return [markdown or html for markdown, html in LINK.findall(text)]


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if PYTHON.search(text)])
def test_python_of_a_page_runs(page, monkeypatch, tmp_path):
    """From the root of a clone, one block after another, with at most two steps of fine-tuning and three sentences."""
    monkeypatch.chdir(ROOT)
    for sentence in sorted(SENTENCES.glob("*.ogg"))[:3]:
        (tmp_path / sentence.name).symlink_to(sentence)
    monkeypatch.setattr("vcvae.convert.encoder.SENTENCES", tmp_path)
    for name, function in (("finetune", finetune), ("refine", refine)):
        monkeypatch.setattr(
            learner,
            name,
            lambda *args, steps, function=function, **options: function(*args, steps=min(steps, 2), **options),
        )
    names = {}
    for code in PYTHON.findall(PAGES[page]):
        exec(code, names)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_parse(page):
    for line in COMMAND_LINE.findall(PAGES[page]):
        name, *arguments = shlex.split(line.split("  #")[0])
        if name != "--version":
            COMMANDS[name].make_context(name, arguments)  # exits where an option or an argument is wrong or missing


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_of_a_page_have_these_options(page):
    for name, rest in COMMAND_IN_TEXT.findall(PAGES[page]):
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= options | {"--help"}, f"vcvae {name}{rest}"


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_work(page):
    folder = (ROOT / page).parent
    for link in links(PAGES[page]):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("card", CARDS)
def test_links_of_a_card_work_in_an_installed_package(card):
    package = ROOT / "vcvae"
    for link in links(PAGES[card]):
        if not link.startswith("https://"):
            assert ((ROOT / card).parent / link.partition("#")[0]).resolve().is_relative_to(package), link


def test_readme_has_at_most_120_lines():
    assert len(README.splitlines()) <= 120


def test_readme_marks_its_two_commands():
    commands = re.findall(r"<!-- command (\d) -->\n+```bash\n(.*?)```", README, re.S)
    assert [number for number, _ in commands] == ["1", "2"]
    assert "vcvae convert" in commands[0][1]
    assert "pytest" in commands[1][1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
