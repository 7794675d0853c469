"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import vcvae

MODULES = [m.name for m in pkgutil.walk_packages(vcvae.__path__, "vcvae.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(examples) >= 30
