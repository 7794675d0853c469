"""The Dockerfile, where no Docker may be: what it copies exists and is sent, and what it starts is a command."""

import fnmatch
import json
import re
from pathlib import Path

from typer.main import get_command

from vcvae.cli import app

ROOT = Path(__file__).parents[1]
LINES = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()


def instructions(name):
    return [line.split(maxsplit=1)[1] for line in LINES if line.split(" ")[0] == name]


def test_dockerfile_copies_what_is_there_and_not_ignored():
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for copy in instructions("COPY") for source in copy.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent)


def test_dockerfile_starts_the_page_as_a_user_without_rights():
    command, name, *arguments = json.loads(instructions("CMD")[-1])
    assert command == "vcvae"
    parsed = get_command(app).commands[name].make_context(name, list(arguments)).params
    assert (parsed["host"], parsed["port"]) == ("0.0.0.0", int(instructions("EXPOSE")[0]))
    assert instructions("USER")[-1] != "root"
