"""The form of a conversion by HTTP: which fields it has, and what they may hold."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import FormData, UploadFile

from vcvae.defaults import MAX_PITCH_SHIFT
from vcvae.errors import shorten

FIELDS = ("source", "target", "consent", "pitch_shift")
MAX_TARGETS = 100  # recordings of one speaker
MAX_FIELDS = 20  # that are no files; more than there are, so that a wrong one is named
MAX_TEXT = 1024  # bytes of a field that is no file


@dataclass(frozen=True)
class ConvertForm:
    """A source, recordings of the target or one .voice, and semitones."""

    source: UploadFile
    targets: list[UploadFile]
    pitch_shift: float

    @classmethod
    def read(cls, form: FormData) -> ConvertForm:
        """The fields of a form.

        Raises:
            HTTPException: one that is missing, wrong or unknown, or no consent.
        """
        for name in form:
            if name not in FIELDS:
                raise HTTPException(422, f"{shorten(name)}: no such field; there are {', '.join(FIELDS)}.")
        source, *others = _files(form, "source")
        if others:
            raise HTTPException(422, f"source: {1 + len(others)} files; send one.")
        targets = _files(form, "target")
        if _text(form, "consent") != "yes":
            raise HTTPException(403, "consent: say yes if you have the right to use the target's voice.")
        return cls(source, targets, _semitones(_text(form, "pitch_shift")))


def _files(form: FormData, name: str) -> list[UploadFile]:
    values = form.getlist(name)
    if not values or not all(isinstance(value, UploadFile) for value in values):
        raise HTTPException(422, f"{name}: missing, or no file; send one, such as with curl -F {name}=@FILE.")
    return values


def _text(form: FormData, name: str) -> str:
    values = form.getlist(name) or [""]
    if len(values) > 1 or not isinstance(values[0], str):
        raise HTTPException(422, f"{name}: given twice or as a file; give one text.")
    return values[0]


def _semitones(text: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = float("nan")
    if not -MAX_PITCH_SHIFT <= value <= MAX_PITCH_SHIFT:
        raise HTTPException(
            422, f"pitch_shift: {shorten(text, 20)}; give semitones, {-MAX_PITCH_SHIFT:g} to {MAX_PITCH_SHIFT:g}."
        )
    return value
