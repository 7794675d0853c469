"""What the README shows is true: its Python runs, its commands exist, its links lead somewhere."""

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from vcvae.cli import app
from vcvae.convert import converter
from vcvae.convert.finetune import finetune

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [page for page in ROOT.rglob("*.md") if not {".venv", "exp", ".pytest_cache"} & set(page.parts)]


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.S))
def test_python_runs(code, monkeypatch):
    """With a few steps of learning a voice, where two hundred would take a minute."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        converter, "finetune", lambda *args, steps, **options: finetune(*args, steps=min(steps, 3), **options)
    )
    exec(code, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page):
    for line in re.findall(r"^(?:    |\.venv/bin/|.*&& \.venv/bin/)vcvae (.*)$", page.read_text(), re.M):
        name, *arguments = shlex.split(line.split("  #")[0])
        command = get_command(app).commands[name]
        command.make_context(name, arguments)  # exits where an option or an argument is unknown or missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_two_commands_are_marked():
    commands = re.findall(r"<!-- command (\d) -->\n+```bash\n(.*?)```", README, re.S)
    assert [number for number, _ in commands] == ["1", "2"]
    assert "vcvae convert" in commands[0][1]
    assert "pytest" in commands[1][1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
