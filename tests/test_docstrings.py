"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import vcvae

MODULES = [m.name for m in pkgutil.walk_packages(vcvae.__path__, "vcvae.")]


def load(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name.startswith("vcvae.serve."):
            pytest.skip(f"{error.name}, of the extra web, is not installed")
        raise


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(load(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    names = [name for name in MODULES if not name.startswith("vcvae.serve.")]
    examples = [t for name in names for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(examples) >= 30
