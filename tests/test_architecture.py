"""The page on the architecture: its figures show the code, and its examples do what it says."""

import importlib
import re
import sys
from functools import partial
from inspect import unwrap
from pathlib import Path

import pytest
import torch
from torch.distributions import Beta

from benchmarks.specs import plan
from benchmarks.suite import load_suite
from docs import architecture, training_step
from docs.figures import save
from reports import document
from sb3_natural import NPG
from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.operators import Damped, FisherOperator, GaussNewtonOperator
from sb3_natural.curvature.solvers import Dense
from sb3_natural.networks.parameters import flatten
from tests.reports.conftest import RunFolders, build_report
from tests.test_rooms import ARROWS

DOCS = Path(architecture.__file__).parent
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")


def ids(picture: Path, kind: str) -> list[str]:
    """What a figure's elements of a kind are called, in their order."""
    return re.findall(rf'<g id="{kind}-(.+?)">', picture.read_text(encoding="utf-8"))


def blocks(heading: str, language: str = "python") -> list[str]:
    """The blocks of code below a heading of the page."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert found, heading
    return found


def run(heading: str) -> dict:
    """The names that a section's examples leave behind, run one after the other."""
    names: dict = {"__name__": "example"}
    for block in blocks(heading):
        exec(compile(block, f"architecture.md: {heading}", "exec"), names)
    return names


# The figures


def test_each_room_is_drawn_once():
    assert sorted(architecture.ROOMS) == sorted(ARROWS)


def test_the_arrows_of_the_stored_figure_are_those_of_the_code():
    stored = {tuple(name.split("-")) for name in ids(DOCS / "images" / "rooms.svg", "arrow")}
    assert stored == architecture.drawn()
    assert len(stored) > 40


def test_an_import_of_the_code_is_an_arrow_and_nothing_else_is(monkeypatch):
    """From rooms to what is drawn: boxes of one frame, or the two frames."""
    found = {
        ("sb3_natural.npg", "sb3_natural.curvature"),
        ("sb3_natural.acer", "sb3_natural.curvature"),
        ("sb3_natural.arguments", "sb3_natural.shapes"),
        ("reports.data", "benchmarks"),
        ("reports.live", "studies"),
    }
    monkeypatch.setattr(architecture, "arrows", lambda rooms: found)
    assert architecture.drawn() == {
        ("algorithms", "curvature"),
        ("reports", "benchmarks"),
        ("reports", "studies"),
    }


def test_routes_are_those_of_arrows_that_there_are():
    assert set(architecture.ROUTES) <= architecture.drawn()


def test_pale_arrows_go_where_others_lead():
    pairs = {("names", "algorithms"), ("algorithms", "updates"), ("updates", "curvature")}
    assert architecture.implied(pairs) == set()
    shortcut = ("names", "curvature")
    assert architecture.implied(pairs | {shortcut}) == {shortcut}
    # What runs up, and what is between frames, leads nowhere.
    around = {("studies", "benchmarks"), ("benchmarks", "sb3_natural"), ("studies", "sb3_natural")}
    assert architecture.implied(around | {("loading", "names")}) == set()


def test_only_two_arrows_run_up():
    up = {pair for pair in architecture.drawn() if architecture.runs_up(*pair)}
    assert up == {("loading", "names"), ("studies.claims", "studies")}


def test_no_box_lies_on_another_or_leaves_its_frame():
    for frame in architecture.FRAMES.values():
        places = [architecture.BOXES[name].place for name in frame.boxes]
        for place in places:
            assert frame.place.x < place.x < place.right < frame.place.right
            assert frame.place.y < place.y < place.bottom < frame.place.bottom
            overlapping = [
                other
                for other in places
                if place.x < other.right
                and other.x < place.right
                and place.y < other.bottom
                and other.y < place.bottom
            ]
            assert overlapping == [place]


def test_the_functions_of_the_stored_figure_are_those_that_are_drawn():
    drawn = [
        training_step.path_of(call.function)
        for stage in training_step.STAGES
        for call in stage.calls
    ]
    assert ids(DOCS / "images" / "training-step.svg", "call") == drawn
    for path in drawn:  # and all are where the figure says
        module, _, name = path.partition(":")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_the_functions_of_a_training_step_are_called_in_the_order_of_the_figure():
    expected = [
        call.function.__init__ if isinstance(call.function, type) else unwrap(call.function)
        for stage in training_step.STAGES
        for call in stage.calls
    ]
    codes = [function.__code__ for function in expected]
    called = []

    def note(frame, event, _):
        if event == "call" and frame.f_code in codes and frame.f_code not in called:
            called.append(frame.f_code)

    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0, device="cpu")
    sys.setprofile(note)
    try:
        model.learn(128)
    finally:
        sys.setprofile(None)
    assert called == codes


@pytest.mark.parametrize(
    ("name", "module"), [("rooms.svg", architecture), ("training-step.svg", training_step)]
)
def test_figures_are_readable_on_a_telephone(name, module, tmp_path):
    """Text keeps 8 pixels where a page of 390 leaves 358; and no text lies beyond the edge."""
    figure = module.draw()
    save(figure, tmp_path / name)
    (ax,) = figure.axes
    assert min(text.get_size() for text in ax.texts) * 358 / module.WIDTH >= 8
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        assert 0 < box.x0 < box.x1 < module.WIDTH, text.get_text()


# Where do I change ...?


def test_every_example_of_the_page_is_among_those_tested():
    tested = ("solver", "action distribution", "algorithm", "suite", "section of a report")
    found = [len(blocks(f"A new {each}")) for each in tested]
    assert sum(found) == len(re.findall("```python", PAGE))


def a_rollout(model):
    """The batch of a model that has collected one rollout."""
    model.learn(model.n_steps)
    return next(model.rollout_buffer.get(batch_size=None))


def test_the_new_solvers_directions_are_the_exact_ones():
    names = run("A new solver")
    model, solver = names["model"], names["JacobiCG"]()
    small = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, policy_kwargs={"net_arch": [4]}, seed=0)
    batch = a_rollout(small)
    fisher = FisherOperator(small.policy, batch.observations)
    values = GaussNewtonOperator(
        small.policy, list(small.policy.value_net.parameters()), batch.observations
    )
    for operator in (Damped(fisher, 1.0), Damped(values, 0.1)):
        b = torch.randn(operator.shape[0], generator=torch.manual_seed(0))
        exact = Dense().solve(operator, b).direction
        torch.testing.assert_close(solver.solve(operator, b).direction, exact, rtol=0, atol=1e-3)
    model.n_steps = 64
    before = flatten(model.policy.parameters()).detach()
    model.learn(128)
    assert model._skipped_updates == 0
    assert not torch.equal(flatten(model.policy.parameters()), before)


def test_the_new_distributions_fisher_products_are_the_hessian_of_its_kl():
    names = run("A new action distribution")
    model, family = names["model"], names["BetaFamily"]()
    policy = model.policy
    assert model.num_timesteps == 2048
    assert 0 <= model.rollout_buffer.actions.min() < model.rollout_buffer.actions.max() <= 1
    assert model._skipped_updates == 0
    assert 0 < model.logger.name_to_value["train/kl"] <= 1.5 * 0.02

    # By the statistics, against a Hessian and against torch's KL divergence at single pairs.
    p = 1 + torch.rand(5, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    u = torch.randn(5, 4, dtype=torch.float64)
    products = family.fisher_at(p)(u)
    for row in range(5):
        to_q = partial(lambda own, q: family.kl(own, q[None])[0], p[[row]])
        expected = torch.autograd.functional.hessian(to_q, p[row]) @ u[row]
        torch.testing.assert_close(products[row], expected)
        between = torch.distributions.kl_divergence(
            Beta(p[row, :2], p[row, 2:]), Beta(p[0, :2], p[0, 2:])
        )
        torch.testing.assert_close(family.kl(p[[row]], p[[0]])[0], between.sum())

    # By the parameters: F v against the gradient of (gradient of the KL)^T v.
    observations = next(model.rollout_buffer.get(batch_size=256)).observations
    fisher = FisherOperator(policy, observations)
    assert type(fisher.family) is type(family)
    v = torch.randn(fisher.shape[0])
    phi = family.statistics(policy.get_distribution(observations))
    kl = family.kl(phi.detach(), phi).mean()
    slope = torch.autograd.grad(kl, fisher.params, create_graph=True)
    expected = torch.autograd.grad(flatten(slope) @ v, fisher.params)
    torch.testing.assert_close(fisher @ v, flatten(expected), rtol=1e-3, atol=1e-5)


def test_the_new_distributions_alpha_and_beta_cannot_be_swapped(monkeypatch):
    right = "[beta.concentration1, beta.concentration0]"
    assert PAGE.count(right) == 1
    swapped = PAGE.replace(right, "[beta.concentration0, beta.concentration1]")
    monkeypatch.setitem(globals(), "PAGE", swapped)
    with pytest.raises(ValueError, match=r"BetaFamily\.parts"):
        run("A new action distribution")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_new_algorithm_steps_as_far_as_it_says(env_id):
    algorithm = run("A new algorithm")["SmallNPG"]
    model = algorithm("MlpPolicy", env_id, n_steps=1024, seed=0)
    before = {name: param.clone() for name, param in model.policy.named_parameters()}
    batch = a_rollout(model)
    after = model.policy.get_distribution(batch.observations)
    family = family_of(after)
    new = family.statistics(after).detach()
    moved = {
        name for name, param in model.policy.named_parameters() if (param != before[name]).any()
    }
    assert moved == set(before)  # both networks
    with torch.no_grad():
        for name, param in model.policy.named_parameters():
            param.copy_(before[name])
    old = family.statistics(model.policy.get_distribution(batch.observations)).detach()
    assert family.kl(old, new).mean().item() == pytest.approx(0.01, rel=0.2)


def test_the_new_algorithm_is_part_of_a_sweep_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "small.py").write_text("".join(blocks("A new algorithm")))
    monkeypatch.syspath_prepend(str(tmp_path))
    specs = plan(load_suite("smoke"), ["small:SmallNPG", "npg"], ["CartPole-v1"], range(2))
    assert [spec.algo for spec in specs] == ["small:SmallNPG", "npg"] * 2


def test_the_new_suite_is_planned(tmp_path, monkeypatch, capsys):
    (written,) = blocks("A new suite", "yaml")
    (tmp_path / "pendulums.yaml").write_text(written)
    monkeypatch.chdir(tmp_path)
    runs = run("A new suite")["runs"]
    assert capsys.readouterr().out == "12 pendulums Pendulum-v1 100000\n"
    assert {(each.env_id, each.n_timesteps) for each in runs} == {
        ("Pendulum-v1", 100_000),
        ("Acrobot-v1", 50_000),
    }
    assert {each.algo for each in runs} == {"npg", "ppo"}
    assert {each.seed for each in runs} == {0, 1, 2}
    (wrapped,) = {str(each.environment) for each in runs if each.env_id == "Acrobot-v1"}
    assert "TimeAwareObservation" in wrapped


def test_the_new_section_is_in_a_report(tmp_path, monkeypatch):
    build = run("A new section of a report")["build"]
    monkeypatch.setattr(document, "SECTIONS", [*document.SECTIONS, build])
    (tmp_path / "runs").mkdir()
    folders = RunFolders(tmp_path / "runs")
    folders.add("npg", seed=0, returns=(20.0, 100.0, 100.0))
    folders.add("npg", seed=1, returns=(20.0, 300.0, 300.0))
    text = build_report(tmp_path / "runs", tmp_path / "out", formats=("md", "html", "csv"))
    section = text.partition("\n## How far apart the seeds are\n")[2]
    cells = re.findall(r"^\| CartPole-v1 +\| npg +\| +(\S+) \| +(\S+) \|$", section, re.MULTILINE)
    assert [tuple(map(float, row)) for row in cells] == [(100.0, 300.0)]
    assert "How far apart the seeds are" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "tables" / "seeds.csv").is_file()
    assert build(document.Context()) is None
