"""Trainings from policies that are nearly certain of one action."""

from studies.claims.saturated import _first_length, _model, _Training


def test_the_first_step_of_fixed_length_has_the_divergence_that_is_asked_for():
    for gradient in ("plain", "natural"):
        training = _Training(0.9, "own", gradient, 0, 1)
        model = _model(training, 0.9, {"step_size": _first_length(training)})
        model.learn(2_048)
        assert 0.004 < model.logger.name_to_value["train/kl"] < 0.015


def test_a_certain_policy_asks_for_a_much_longer_plain_step():
    lengths = [_first_length(_Training(0.99, steps, "plain", 0, 1)) for steps in ("usual", "own")]
    assert lengths[1] > 10 * lengths[0]
