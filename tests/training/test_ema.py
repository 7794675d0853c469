from torch import nn

from vcvae.training.ema import ema


def test_ema_forgets_the_initial_weights_and_then_moves_slowly():
    model = nn.Linear(1, 1, bias=False)
    mean = ema(model, 0.99)
    for value in (100.0, *[1.0] * 60):
        nn.init.constant_(model.weight, value)
        mean.update_parameters(model)
    assert abs(mean.module.weight.item() - 1) < 0.1  # with .99 from the first step on it would be 55
    for _ in range(2000):
        mean.update_parameters(model)
    nn.init.constant_(model.weight, 2.0)
    mean.update_parameters(model)
    assert abs(mean.module.weight.item() - 1.01) < 1e-3
    assert not mean.module.weight.requires_grad
