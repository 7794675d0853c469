import pytest
import torch

from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.run_folder import load_run


def test_load_run_of_a_missing_or_broken_checkpoint_is_an_error(values, tmp_path):
    with pytest.raises(VcvaeError, match="no checkpoint here"):
        load_run(tmp_path)
    (tmp_path / checkpoint.NAME).write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="cannot be read as a checkpoint"):
        load_run(tmp_path)
    torch.save([1, 2], tmp_path / checkpoint.NAME)
    with pytest.raises(VcvaeError, match="not the checkpoint of a run"):
        load_run(tmp_path)
