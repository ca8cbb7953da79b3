"""Model cards of real runs: read by the hub's own parser, and their code executed."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from benchmarks.archive import archive
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from reports.__main__ import app
from sb3_natural import NPG, PPO, RecurrentNPG
from tests.reports.conftest import RunFolders

SMALL = {"n_envs": 2, "n_steps": 64, "policy_kwargs": "dict(net_arch=[8])"}
EVALUATION = Evaluation(points=20, episodes=3, seed=77)
MARK = re.compile(r"<!-- python -m reports card: text [0-9a-f]{64}, picture [0-9a-f]{64} -->\n")


def trained(root: Path, algo: str, seed: int = 0, **changes: Any) -> Path:
    """A run of a second."""
    settings = {"env_id": "CartPole-v1", "n_timesteps": 512, "evaluation": EVALUATION}
    hyperparams = SMALL | changes.pop("hyperparams", {})
    spec = RunSpec("tiny", algo, seed=seed, hyperparams=hyperparams, **(settings | changes))
    return Path(str(run(spec, root, "python -m benchmarks run tiny --algos npg,ppo")))


@pytest.fixture(scope="module")
def npg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of three seeds, and a run of other settings beside them."""
    root = tmp_path_factory.mktemp("npg")
    trained(root, "npg", 0, hyperparams={"gamma": 0.9})
    first, *_ = [trained(root, "npg", seed) for seed in range(3)]
    return first


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single seed with ``VecNormalize``."""
    batches = {"batch_size": 64, "n_epochs": 2, "normalize": True}
    return trained(tmp_path_factory.mktemp("ppo"), "ppo", hyperparams=batches)


def card(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["card", *map(str, arguments)])
    return result.exit_code, result.output


def written(folder: Path, *options: str | Path) -> ModelCard:
    """The card that the command writes for a run, as the hub's library reads it."""
    out = folder / "README.md"
    assert card(folder, *options) == (0, f"wrote {out}\n")
    return ModelCard.load(out, ignore_metadata_errors=False)


def executed(found: ModelCard, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the names of the card's code stand for, after it has run beside the model."""
    (code,) = re.findall(r"```python\n(.*?)```", found.text, re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(code, "the card", "exec"), names)
    return names


def evaluations(folder: Path) -> np.ndarray:
    """Steps, returns, and their deviations over episodes: shape (evaluations, 3)."""
    columns = (0, 2, 3)
    return np.loadtxt(folder / "evaluations.csv", delimiter=",", skiprows=1, usecols=columns)


def table_of(text: str) -> dict[str, list[str]]:
    """The cells of each row of a card's scores."""
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_the_hub_reads_library_tags_and_the_final_return(npg: Path, ppo: Path) -> None:
    for folder, name in ((npg, "NPG"), (ppo, "PPO")):
        data = written(folder, "--force").data
        assert data.library_name == "stable-baselines3"
        assert data.tags == [
            "CartPole-v1",
            "deep-reinforcement-learning",
            "reinforcement-learning",
            "stable-baselines3",
            "sb3-natural",
        ]
        assert data.model_name == name
        (result,) = data.eval_results
        assert (result.task_type, result.metric_type) == ("reinforcement-learning", "mean_reward")
        assert result.dataset_name == result.dataset_type == "CartPole-v1"
        # 21 evaluations: the last two are final. Three episodes each.
        _, means, deviations = evaluations(folder)[-2:].T
        over_all = np.sqrt(np.mean(deviations**2) + np.var(means))
        assert result.metric_value == f"{means.mean():.2f} +/- {over_all:.2f}"
        # What the hub's library writes, it reads again.
        assert ModelCard(f"---\n{data.to_yaml()}\n---\n").data.to_dict() == data.to_dict()


def test_the_code_of_the_card_loads_the_model_which_acts(
    npg: Path, ppo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, cls in ((npg, NPG), (ppo, PPO)):
        names = executed(written(folder, "--force"), folder, monkeypatch)
        assert type(names["model"]) is cls
        assert names["model"].num_timesteps == 512
        assert names["observation"].shape == (1, 4)
        expected, _ = cls.load(folder / "model.zip").predict(np.full((1, 4), 0.1), None, None, True)
        found, _ = names["model"].predict(np.full((1, 4), 0.1), deterministic=True)
        assert found == expected
    # PPO's, whose statistics are those of the training and stay as they are.
    assert names["env"].obs_rms.count == pytest.approx(512, abs=3)
    assert not names["env"].training
    assert not names["env"].norm_reward


def test_what_loading_executes_is_said(npg: Path, ppo: Path) -> None:
    of_npg, of_ppo = (written(folder, "--force").text for folder in (npg, ppo))
    for text in (of_npg, of_ppo):
        assert "**Loading executes code.** `model.zip` holds pickles" in text
    assert "vecnormalize.pkl" not in of_npg
    assert "`vecnormalize.pkl` is one" in of_ppo
    assert 'NPG.load("model.zip", env=env, weights_only=True)' in of_npg
    assert "weights_only" not in of_ppo  # which SB3's PPO does not have
    model = NPG.load(npg / "model.zip", weights_only=True)
    assert model.num_timesteps == 512


def test_wrappers_frame_stack_and_arguments_are_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "kwargs": {"g": 5.0, "max_episode_steps": 20},
        "wrappers": [
            "gymnasium.wrappers.TimeAwareObservation",
            {"gymnasium.wrappers.RescaleAction": {"min_action": -0.5, "max_action": 0.5}},
        ],
        "frame_stack": 2,
    }
    folder = trained(
        tmp_path,
        "npg",
        env_id="Pendulum-v1",
        environment=environment,
        hyperparams={
            "env_wrapper": {"gymnasium.wrappers.ClipReward": {"max_reward": -0.5}},
            "normalize": True,
        },
    )
    names = executed(written(folder), folder, monkeypatch)
    assert names["observation"].shape == (1, 8)
    assert names["reward"][0] <= -0.5
    (made,) = names["env"].get_attr("unwrapped")
    assert made.g == 5.0
    assert names["env"].action_space.high == 0.5


def test_a_recurrent_policy_keeps_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = "dict(net_arch=[8], lstm_hidden_size=8)"
    settings = {"policy": "MlpLstmPolicy", "policy_kwargs": kwargs}
    folder = trained(tmp_path, "recurrent_npg", hyperparams=settings)
    names = executed(written(folder), folder, monkeypatch)
    assert type(names["model"]) is RecurrentNPG
    assert np.shape(names["state"]) == (2, 1, 1, 8)
    assert names["starts"].shape == (1,)


def test_scores_are_those_of_the_run_and_of_all_its_seeds(npg: Path) -> None:
    scores = table_of(written(npg, "--force").text)
    beside = [each for each in npg.parent.iterdir() if each.name.endswith(npg.name[-8:])]
    assert len(beside) == 3
    finals = [evaluations(folder)[-2:, 1].mean() for folder in beside]
    own, over_seeds = scores["final return"]
    assert float(own) == pytest.approx(evaluations(npg)[-2:, 1].mean(), rel=1e-3)
    mean, low, high = map(float, re.findall(r"[\d.]+", over_seeds))
    assert mean == pytest.approx(np.mean(finals), rel=1e-2)
    # Of all resamples of three, one in 27 has the lowest thrice, more than 2.5%.
    assert (low, high) == pytest.approx((min(finals), max(finals)), rel=1e-2)
    curve = evaluations(npg)
    assert float(scores["best evaluation"][0]) == pytest.approx(curve[1:, 1].max(), rel=1e-3)
    area = np.trapezoid(curve[:, 1], curve[:, 0]) / 512
    assert float(scores["area under the curve"][0]) == pytest.approx(area, rel=1e-3)


def test_standard_error_is_that_of_the_last_evaluation(ppo: Path) -> None:
    *_, (_, _, deviation) = evaluations(ppo)
    text = written(ppo, "--force").text
    said = re.search(r"over its 3 episodes: ([\d.]+)\.", text)
    assert said is not None
    # The deviation in the file is divided by the number of episodes, not by one less.
    assert float(said[1]) == pytest.approx(deviation / np.sqrt(3 - 1), rel=2e-2)


def test_one_seed_has_no_interval_and_two_support_no_claim(folders: RunFolders) -> None:
    first = folders.add("npg", returns=[1.0, 30.0])
    text = written(first).text
    assert "This is one seed" in text
    assert len(table_of(text)["final return"]) == 1
    folders.add("npg", seed=1, returns=[1.0, 40.0])
    text = written(first).text
    assert table_of(text)["final return"] == ["30.0", "35.0 [30.0, 40.0]"]
    assert "Fewer than 3 seeds support no claim" in text
    folders.add("npg", seed=2, returns=[1.0, 50.0])
    folders.add("npg", seed=3, returns=[1.0, 9.0], hyperparams={"gamma": 0.5})
    folders.add("ppo", seed=4, returns=[1.0, 9.0])
    text = written(first).text
    assert table_of(text)["final return"] == ["30.0", "40.0 [30.0, 50.0]"]
    assert "claim" not in text


def test_only_runs_in_the_same_folder_count(folders: RunFolders, tmp_path: Path) -> None:
    """Neither those of other folders nor what lies below the folders beside it."""
    original = folders.add("npg", returns=[1.0, 30.0])
    other = folders.add("npg", seed=1, returns=[1.0, 40.0])
    copy = tmp_path / original.name
    shutil.copytree(original, copy)
    shutil.copytree(other, tmp_path / "else" / other.name)
    folders.add_failure("npg", seed=2)
    assert "This is one seed" in written(copy).text
    assert "failed" not in written(copy).text
    shutil.copytree(other, tmp_path / other.name)
    assert table_of(written(copy).text)["final return"] == ["30.0", "35.0 [30.0, 40.0]"]


def test_an_archived_run_counts_if_its_folder_would_lie_beside_it(
    folders: RunFolders, tmp_path: Path
) -> None:
    first = folders.add("npg", returns=[1.0, 30.0])
    folders.add("npg", seed=1, returns=[1.0, 40.0])
    folders.add_failure("npg", seed=2)
    place = tmp_path / "archive"
    archive(folders.root, place)
    beside = place / first.relative_to(folders.root)
    elsewhere = place / first.name
    for folder in (beside, elsewhere):
        shutil.copytree(first, folder)
    text = written(beside).text
    assert table_of(text)["final return"] == ["30.0", "35.0 [30.0, 40.0]"]
    assert "**1 run with these settings has failed**: seed 2." in text
    text = written(elsewhere).text
    assert "This is one seed" in text
    assert "failed" not in text


def test_failed_seeds_are_said(folders: RunFolders) -> None:
    first = folders.add("npg", returns=[1.0, 30.0])
    assert "failed" not in written(first).text
    folders.add_failure("ppo", seed=3)
    folders.add_failure("npg", env_id="Acrobot-v1", seed=4)
    assert "failed" not in written(first).text
    failure = folders.add_failure("npg", seed=12)
    (said,) = (part for part in written(first).text.split("\n\n") if "failed" in part)
    assert said.startswith("**1 run with these settings has failed**: seed 12. ")
    folders.add_failure("npg", seed=5)
    folders.add("npg", seed=1, returns=[1.0, 40.0])
    text = written(first).text
    assert "\n\n**2 runs with these settings have failed**: seeds 5 and 12. " in text
    assert table_of(text)["final return"] == ["30.0", "35.0 [30.0, 40.0]"]
    folders.add("npg", seed=12, returns=[1.0, 50.0])  # which finished at the second try
    assert "**1 run with these settings has failed**: seed 5. " in written(first).text
    failure.write_text("{")
    shutil.rmtree(failure.with_name(failure.name.removesuffix(".failed.json")))
    status, output = card(first)
    assert status == 0
    assert f"warning: left out: {failure}: " in output


def test_the_run_may_be_named_by_a_link_or_from_inside_it(
    folders: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folders.add("npg", returns=[1.0, 30.0])
    folders.add("npg", seed=1, returns=[1.0, 40.0])
    (first / "films").mkdir()
    link = tmp_path / "best"
    link.symlink_to(first)
    for inside, named in ((tmp_path, "best"), (first, "."), (first / "films", "..")):
        monkeypatch.chdir(inside)
        assert card(named) == (0, f"wrote {Path(named) / 'README.md'}\n")
        text = (first / "README.md").read_text()
        assert table_of(text)["final return"] == ["30.0", "35.0 [30.0, 40.0]"]
        (first / "README.md").unlink()
        (first / "learning_curve.png").unlink()


def test_settings_commands_and_versions_are_those_of_the_record(npg: Path) -> None:
    text = written(npg, "--force").text
    record = json.loads((npg / "run.json").read_text())
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(settings) == record["spec"]["hyperparams"]
    assert f"```\n{record['command']}\n```" in text
    assert record["commit"] in text
    assert f"torch {record['versions']['torch']}" in text
    assert "512 environment steps" in text


def test_films_beside_the_card_are_shown(npg: Path, tmp_path: Path) -> None:
    folder = tmp_path / npg.name
    shutil.copytree(npg, folder)
    film = CliRunner().invoke(
        app, ["record", str(folder), "--out", str(folder / "replay.gif"), "--seconds", "0.2"]
    )
    assert film.exit_code == 0
    (folder / "javascript:alert(1) .mp4").write_bytes(b"")
    text = written(folder, "--force").text
    assert "![Film of the agent](./replay.gif)" in text
    assert "\n[Film of the agent](./javascript:alert%281%29%20.mp4)" in text


def test_only_what_the_command_has_written_is_overwritten(ppo: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "cards" / "card.md", tmp_path / "cards" / "card_learning_curve.png"
    assert card(ppo, "--out", out) == (0, f"wrote {out}\n")
    first = out.read_bytes()
    assert card(ppo, "--out", out)[0] == 0
    assert out.read_bytes() == first
    for path in (out, picture):
        kept = path.read_bytes()
        for other in (kept.replace(b"a", b"A", 1), b"mine", b""):
            path.write_bytes(other)
            status, said = card(ppo, "--out", out)
            assert status == 2
            assert f"error: {path}: is there, and not as this command has written it" in said
            assert path.read_bytes() == other
        assert card(ppo, "--out", out, "--force")[0] == 0
        assert path.read_bytes() == kept
    out.unlink()
    assert card(ppo, "--out", out)[0] == 2  # nothing says whose picture that is
    assert not out.exists()


def test_each_card_has_a_picture_of_its_own(folders: RunFolders) -> None:
    folder = folders.add("npg", returns=[1.0, 30.0])
    cards = {
        folder / "README.md": "learning_curve.png",
        folder / "my card.md": "my card_learning_curve.png",
    }
    for seed in (1, 2):
        for out in cards:
            assert card(folder, "--out", out)[0] == 0
        folders.add("npg", seed=seed, returns=[1.0, 40.0])  # which changes the curve
    for out, picture in cards.items():
        tokens = MarkdownIt("commonmark").parse(out.read_text())
        (image,) = (
            each for token in tokens for each in token.children or [] if each.type == "image"
        )
        assert unquote(image.attrs["src"]) == f"./{picture}"
        assert (folder / picture).is_file()


def test_a_card_does_not_disturb_what_reads_the_run(npg: Path, tmp_path: Path) -> None:
    written(npg, "--force")
    root = npg.parents[3]
    built = CliRunner().invoke(
        app, ["build", str(root), "--out", str(tmp_path / "report"), "--format", "md"]
    )
    assert built.exit_code == 0, built.output
    assert archive(root, tmp_path / "archive") == (4, 0)


def test_what_cannot_be_described_is_refused(npg: Path, tmp_path: Path) -> None:
    status, said = card(tmp_path)
    assert status == 2
    assert f"{tmp_path}: is not the folder of a finished run" in said
    status, said = card(npg, "--out", tmp_path / "card.txt")
    assert status == 2
    assert "--out: must be a file that ends in .md" in said
    archive(npg.parents[3], tmp_path / "archive")
    status, said = card(tmp_path / "archive" / npg.relative_to(npg.parents[3]))
    assert status == 2
    assert "has no model.zip, which a card describes; copy it there, or train again" in said
    assert "archived" not in said
    copy = tmp_path / npg.name
    shutil.copytree(npg, copy)
    lines = (copy / "evaluations.csv").read_text().splitlines()
    cells = lines[-1].split(",")
    cells[2:4] = ["nan", "nan"]
    (copy / "evaluations.csv").write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    status, said = card(copy, "--out", tmp_path / "card.md")
    assert status == 2
    assert "has an evaluation without a finite return" in said
    assert not (tmp_path / "card.md").exists()


def test_a_broken_run_beside_it_is_named_and_left_out(folders: RunFolders) -> None:
    first = folders.add("npg", returns=[1.0, 30.0])
    broken = folders.add("npg", seed=1, returns=[1.0, 40.0])
    (broken / "evaluations.csv").write_text("{")
    status, said = card(first)
    assert status == 0
    assert f"warning: left out: {broken / 'evaluations.csv'}: must have the columns" in said
    assert "This is one seed" in (first / "README.md").read_text()


ODD = "**Odd** $e$ [1](x) <b> `c` # |: - v0"


def test_nothing_of_a_file_is_interpreted(folders: RunFolders) -> None:
    folder = folders.add(
        "npg",
        ODD,
        returns=[1.0, 30.0],
        hyperparams={"`|": "<b>|`x`\n```\n# T", "key": "--- !!python/object:os.system"},
        suite="s*u*ite",
        command="x\n```\n<img src=x>",
        commit="`<b>",
        versions={"<i>": "[a](b)"},
        machine={"system": "$\\alpha$ <u>"},
    )
    found = written(folder)
    assert found.data.tags[0] == ODD
    assert found.data.eval_results[0].dataset_name == ODD
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(found.text)
    inline = [child for token in tokens for child in token.children or []]
    html = [each.content for each in (*tokens, *inline) if each.type.startswith("html")]
    assert [bool(MARK.fullmatch(each)) for each in html] == [True]
    links = [each.attrs["href"] for each in inline if each.type == "link_open"]
    assert links == ["https://github.com/DLR-RM/stable-baselines3"]
    texts = "\n".join(each.content for each in (*tokens, *inline))
    for shown in (ODD, "`<b>", "<i> [a](b)", "$\\alpha$ <u>", "x ``` <img src=x>"):
        assert shown in texts
    headings = [token for token in tokens if token.type == "heading_open"]
    assert len(headings) == 5
    (code,) = [token.content for token in tokens if token.info == "python"]
    assert f"make_vec_env({json.dumps(ODD)})" in code


@pytest.mark.parametrize("algo", ["<script>alert(1)</script>", "a b.C", "os", "x.class", "..X"])
def test_a_class_that_python_could_not_import_is_refused(algo: str, folders: RunFolders) -> None:
    folder = folders.add("npg")
    record = json.loads((folder / "run.json").read_text())
    record["spec"]["algo"] = algo.replace("/", "")
    (folder / "run.json").write_text(json.dumps(record))
    status, said = card(folder)
    assert status == 2
    assert "algo: must be the path of a class, such as my_package.MyClass, got" in said
    assert not (folder / "README.md").exists()
    assert not (folder / "learning_curve.png").exists()


def test_nothing_is_imported_or_loaded(
    folders: RunFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders.add("evil_module.Algorithm")
    (folder / "model.zip").write_bytes(b"no zip file")
    (folder / "vecnormalize.pkl").write_bytes(b"no pickle")
    module = folders.root / "evil_module.py"
    module.write_text("raise SystemExit('executed')\n")
    monkeypatch.syspath_prepend(str(folders.root))
    found = written(folder)
    assert "evil_module" not in sys.modules
    assert "from evil_module import Algorithm" in found.text
    assert 'VecNormalize.load("vecnormalize.pkl", env)' in found.text


def test_the_deviation_is_that_of_all_final_episodes(folders: RunFolders) -> None:
    # Of each evaluation it is 1; the means, 10 and 20, lie 5 from their own.
    folder = folders.add("npg", returns=[*[0.0] * 19, 10.0, 20.0])
    (result,) = written(folder).data.eval_results
    assert result.metric_value == f"15.00 +/- {np.sqrt(1 + 5**2):.2f}"


def test_small_returns_are_shown(folders: RunFolders) -> None:
    (result,) = written(folders.add("npg", returns=[0.0, 0.00123])).data.eval_results
    assert result.metric_value == "0.00123 +/- 1.00"


def test_the_spec_of_a_seed_is_compared_and_not_its_folder(folders: RunFolders) -> None:
    """A folder that pretends to be a seed of the same settings is left out."""
    first = folders.add("npg", returns=[1.0, 30.0])
    config = first.name[-8:]
    folders.add("npg", seed=1, hyperparams={"gamma": 0.1}, returns=[1.0, 9.0], config=config)
    assert "This is one seed" in written(first).text
