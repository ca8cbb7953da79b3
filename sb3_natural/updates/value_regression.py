"""Regression of a plain critic on returns, in minibatches, without autograd."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.passes import Backprop
from sb3_natural.updates.flat_adam import flat_adam

__all__ = ["regress"]


@torch.no_grad()
def regress(
    critic: Mlp, optimizer: Adam, minibatches: Iterable[tuple[Tensor, np.ndarray]]
) -> list[float]:
    """Take an Adam step on the mean squared error of each minibatch.

    :param critic: a network that :class:`~sb3_natural.networks.passes.Backprop` fits
    :param optimizer: one that :func:`~sb3_natural.updates.flat_adam.fits` the critic's parameters
    :param minibatches: features (N, n_features) and returns (N,)
    :return: the errors, each before its step
    """
    losses = []
    with flat_adam(optimizer, critic.params) as flat:
        gradient = torch.empty_like(flat.vector)
        network = Backprop(critic, flat.vector, gradient)
        for features, returns in minibatches:
            errors = network.forward(features.numpy())[:, 0] - returns
            losses.append(float(np.square(errors).mean()))
            network.backward((errors * np.float32(2 / len(errors)))[:, None])
            flat.step(gradient)
    return losses
