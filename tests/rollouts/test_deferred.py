"""A deferred tensor behaves as the tensor that it stands for."""

import copy
import pickle

import numpy as np
import torch

from sb3_natural.rollouts.deferred import Deferred


def test_is_computed_once_and_only_when_looked_at():
    calls = []

    def compute():
        calls.append(1)
        return torch.arange(3.0, requires_grad=True) + 1

    deferred = Deferred(compute)
    assert isinstance(deferred, torch.Tensor)
    assert not calls
    assert deferred.sum() == 6
    assert not deferred.requires_grad
    assert len(calls) == 1


def test_stands_for_the_tensor_in_every_use():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    deferred = Deferred(lambda: value)
    assert torch.equal(deferred + 1, value + 1)
    assert torch.equal(1 - deferred, 1 - value)
    assert torch.equal(value * deferred, value * value)
    assert torch.equal(-deferred @ deferred, -value @ value)
    assert torch.equal(torch.stack([deferred, value]), torch.stack([value, value]))
    assert torch.equal(deferred[1], value[1])
    assert torch.equal(deferred > 2, value > 2)
    np.testing.assert_array_equal(np.asarray(deferred), value.numpy())
    np.testing.assert_array_equal(deferred.cpu().numpy(), value.numpy())
    np.testing.assert_array_equal(np.concatenate([deferred, value]), torch.cat([value, value]))
    assert float(Deferred(lambda: value[0, 1])) == deferred[0, 1].item() == 2.0
    assert len(deferred) == 2
    assert [row.tolist() for row in deferred] == value.tolist()
    assert repr(deferred) == repr(value)
    for copied in (copy.deepcopy(deferred), pickle.loads(pickle.dumps(deferred))):
        assert torch.equal(copied, value)
