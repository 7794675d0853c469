"""What one visitor of the page has: voices, and files in a folder that is deleted when they leave."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from pathlib import Path

from vcvae.errors import temporary_folder
from vcvae.models.conversion.voice import Voice

MAX_SESSIONS = 500  # that are open; with one more, the one that was used least recently is closed


class Session:
    """A folder, and voices by name. Its token, which cannot be guessed, is the right to both."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self._files = ExitStack()
        self.folder = self._files.enter_context(temporary_folder())
        self.voices: dict[str, Voice] = {}
        self.uploads: set[Path] = set()  # copies that the page's framework made

    def close(self) -> None:
        """Delete all files."""
        self._files.close()
        for path in self.uploads:
            path.unlink(missing_ok=True)
        self.voices.clear()


class Sessions:
    """All sessions that are open, by token, in the order in which they were used."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self) -> Session:
        """A new session."""
        session = Session()
        with self._lock:
            self._sessions[session.token] = session
            unused = list(self._sessions)[:-MAX_SESSIONS]
        for token in unused:
            self.close(token)
        return session

    def find(self, token: str) -> Session | None:
        """The session of a token."""
        with self._lock:
            session = self._sessions.pop(token, None)
            if session:
                self._sessions[token] = session  # as the one that was used last
            return session

    def close(self, token: str) -> None:
        """End a session, if it is there."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session:
            session.close()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._sessions)

    def close_all(self) -> None:
        """End all sessions."""
        for token in list(self._sessions):
            self.close(token)
