"""vcvae train --explain and fit --explain: every key of a configuration, with its default and its description."""

import pytest
import yaml
from pydantic import Field

from vcvae.cli.explain import explain_config
from vcvae.config import Config
from vcvae.training.tasks import TASKS


class Optimizer(Config):
    """How it learns.

    And more of that.
    """

    rate: float = Field(1e-3, description="learning rate")
    betas: tuple[float, float] = Field((0.9, 0.99), description="decays")


class Run(Config):
    """A run."""

    output: str = Field(description="folder")
    precision: str = Field("no", description="of numbers")
    optimizer: Optimizer = Optimizer(rate=0.5)
    start: str | None = Field(None, description="folder of weights")


def test_explain_config_lists_keys_as_yaml():
    assert explain_config(Run).splitlines() == [
        "# A run.",
        f"{'output:':<40}  # required; folder",
        f"{'''precision: 'no' ''':<40}  # of numbers",
        "optimizer:",
        "  # How it learns.",
        f"{'  rate: 0.5':<40}  # learning rate",
        f"{'  betas: [0.9, 0.99]':<40}  # decays",
        f"{'start: null':<40}  # folder of weights",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_train_explain_prints_the_defaults_of_a_task(vcvae, task):
    code, out, err = vcvae("train", "--explain", task)
    assert (code, err) == (0, "")
    config = TASKS[task][0]
    given = {name: "x" for name, field in config.model_fields.items() if field.is_required() and name != "data"}
    values = yaml.safe_load(out)
    values["data"] |= {"train": "x", "dev": "x"}
    given["data"] = {"train": "x", "dev": "x"}
    assert config.parse(values | given, context="test") == config.parse(given, context="test")
    assert "None" not in out
    assert "&id" not in out  # aliases, where one value stands twice
    assert all("# " in line for line in out.splitlines() if not line.rstrip().endswith(":"))


def test_fit_explain_prints_its_keys(vcvae):
    code, out, err = vcvae("fit", "--explain")
    assert (code, err) == (0, "")
    assert {"output", "source", "target", "model", "rounds"} <= yaml.safe_load(out).keys()
