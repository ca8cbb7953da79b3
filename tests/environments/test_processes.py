"""Environments in worker processes: what one process returns, errors, and processes that end."""

import copy
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecEnv

from sb3_natural import ACER, NPG, PPO, TRPO, make_vec_env
from sb3_natural.environments.processes import ProcessVecEnv
from sb3_natural.environments.vec_normalize import VecNormalize
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

# Workers are forked from a process that has imported this: they start in no time.
multiprocessing.set_forkserver_preload(["sb3_natural"])

TUPLE = spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(4)])
TWO = {"n_processes": 2}


def in_processes(env_id: Any, n_envs: int, n_processes: int = 2, **arguments: Any) -> VecEnv:
    options = {"n_processes": n_processes}
    return make_vec_env(env_id, n_envs, backend="processes", vec_env_kwargs=options, **arguments)


def workers() -> list[Any]:
    return [p for p in multiprocessing.active_children() if "AsyncVectorEnv" in p.name]


@pytest.fixture(autouse=True)
def _no_process_stays():
    yield
    gc.collect()
    assert workers() == []


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, but for the time of Monitor and the kind of dict."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        return all(same(left[key], right[key]) for key in left if key != "t")
    assert type(left) is type(right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


def assert_equal(ours: VecEnv, plain: VecEnv, n_steps: int, seed: int = 0) -> int:
    """Compares resets and steps with random actions; returns how many episodes have ended."""
    space = plain.action_space
    space.seed(seed)
    assert same(ours.reset(), plain.reset())
    assert same(ours.reset_infos, plain.reset_infos)
    ended = 0
    for _ in range(n_steps):
        actions = np.stack([space.sample() for _ in range(plain.num_envs)])
        found = plain.step(actions)
        assert same(ours.step(actions), found)
        assert same(ours.reset_infos, plain.reset_infos)
        ended += found[2].sum()
    return ended


@pytest.mark.parametrize(
    ("env_id", "n_envs", "n_processes", "limit"),
    [
        ("HalfCheetah-v5", 4, 2, 130),
        ("CartPole-v1", 8, 2, 15),
        ("CartPole-v1", 5, 3, 15),  # batches of 2, 2 and 1
        ("Pendulum-v1", 3, 1, 100),  # no other process
        ("FrozenLake-v1", 2, 8, 20),
    ],
)
def test_returns_what_one_process_returns(env_id, n_envs, n_processes, limit):
    options = {"max_episode_steps": limit}
    ours = in_processes(env_id, n_envs, n_processes, seed=3, env_kwargs=options)
    plain = make_vec_env(env_id, n_envs, seed=3, env_kwargs=options)
    assert assert_equal(ours, plain, 300) > 2
    ours.seed(17)
    plain.seed(17)
    assert assert_equal(ours, plain, 20) >= 0
    ours.close()


class Described(SpacesEnv):
    """Says in its infos what it was told."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        observation, _ = super().reset(seed=seed)
        return observation, {"seed": seed, "options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, terminated, _, info = super().step(action)
        info |= {"array": np.arange(3), "nested": {"step": np.int64(self._step)}, "text": "a"}
        return observation, reward, terminated and self._step % 2 == 0, terminated, info


@pytest.mark.parametrize("name", [*OBSERVATION_SPACES, "tuple"])
def test_every_observation_space_of_sb3(name):
    pair = ({**OBSERVATION_SPACES, "tuple": TUPLE}[name], ACTION_SPACES["multicategorical"])

    def make() -> gym.Env:
        return Described(*copy.deepcopy(pair))

    ours, plain = in_processes(make, 3, seed=0), make_vec_env(make, 3, seed=0)
    assert ours.observation_space == plain.observation_space
    assert assert_equal(ours, plain, 30) > 5
    options = [{"start": index} for index in range(3)]
    ours.set_options(options)
    plain.set_options(options)
    assert assert_equal(ours, plain, 3) == 0
    assert ours.reset_infos[2]["options"] == {"start": 2}
    ours.close()


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_every_action_space_of_sb3(name):
    def make() -> gym.Env:
        return SpacesEnv(*copy.deepcopy((spaces.Box(-1, 1, (2,)), ACTION_SPACES[name])))

    ours, plain = in_processes(make, 3, seed=0), make_vec_env(make, 3, seed=0)
    assert assert_equal(ours, plain, 10) > 0
    assert ours.action_space.sample() is not None
    ours.close()


def test_what_was_returned_does_not_change_later():
    env = in_processes("CartPole-v1", 2, seed=0)
    first = env.reset()
    kept = first.copy()
    second = env.step(np.array([0, 1]))[0]
    env.step(np.array([0, 1]))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(second, first)
    env.close()


class Settable(SpacesEnv):
    """Has an attribute and methods."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
        self.render_mode = "rgb_array"
        self.number = 0

    def add(self, number: int, times: int = 1) -> int:
        self.number += number * times
        return self.number

    def broken(self) -> None:
        raise KeyError("nothing here")

    def lock_up(self) -> None:
        self.lock = threading.Lock()

    def function(self) -> Any:
        return lambda: self.number

    def render(self) -> np.ndarray:
        return np.full((4, 4, 3), self.number, np.uint8)


def test_attributes_methods_and_pictures():
    env = in_processes(Settable, 5)
    assert env.env_method("add", 2, times=3, indices=[4, 0, 4, -2]) == [6, 6, 12, 6]
    assert env.get_attr("number") == [6, 0, 0, 6, 12]
    assert env.get_attr("number", 3) == [6]
    env.set_attr("note", [1, 2], indices=1)
    assert env.get_attr("note", 1) == [[1, 2]]
    assert env.has_attr("number")
    assert not env.has_attr("note")
    assert not env.has_attr("nothing")
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, [0]) == [False]
    assert env.env_method("function", indices=4)[0]() == 12
    assert [image[0, 0, 0] for image in env.get_images()] == [6, 0, 0, 6, 12]
    picture = env.render()
    assert picture is not None
    assert picture.shape == (12, 8, 3)
    with pytest.raises(IndexError):
        env.get_attr("number", 5)
    env.close()


def test_an_error_outside_of_steps_names_the_environment_and_ends_nothing():
    env = in_processes(Settable, 3)
    with pytest.raises(KeyError, match="environment 2: 'nothing here'") as caught:
        env.env_method("broken", indices=[2])
    assert "in broken" in str(caught.value.__cause__)
    with pytest.raises(AttributeError, match=r"^environment 0: .*'nothing'"):
        env.get_attr("nothing")
    assert env.reset().shape == (3, 2)
    env.close()


def test_an_attribute_that_cannot_be_sent_is_an_error_of_its_environment():
    env = in_processes(Settable, 2)
    env.env_method("lock_up")
    with pytest.raises(TypeError, match=r"^environment 1: cannot pickle .*lock"):
        env.get_attr("lock")
    assert env.get_attr("number") == [0, 0]
    env.close()


class Fragile(SpacesEnv):
    """Breaks where it is told to."""

    class TwoWordError(Exception):
        """Takes more than a message."""

        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} {second}")

    def __init__(self, index: int, fails: int, at: str) -> None:
        self.at = at if index == fails else ""
        super().__init__(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
        if self.at == "make":
            raise ValueError("cannot be made")

    def reset(self, **options: Any) -> tuple[Any, dict]:
        if self.at == "reset":
            raise ZeroDivisionError("no start")
        return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self.at == "step":
            raise self.TwoWordError("lost", "balance")
        if self.at == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def fragile(at: str, fails: int = 3) -> ProcessVecEnv:
    return ProcessVecEnv([lambda i=i: Fragile(i, fails, at) for i in range(5)], n_processes=2)


@pytest.mark.parametrize("fails", [1, 3], ids=["this process", "another process"])
def test_errors_of_an_environment_name_it_and_end_all_processes(fails):
    with pytest.raises(ValueError, match=rf"^environment {fails}: cannot be made$"):
        fragile("make", fails)
    assert workers() == []
    env = fragile("reset", fails)
    with pytest.raises(ZeroDivisionError, match=rf"^environment {fails}: no start$"):
        env.reset()
    assert workers() == []
    with pytest.raises(RuntimeError, match="make a new ProcessVecEnv"):
        env.reset()
    env = fragile("step", fails)
    env.reset()
    with pytest.raises(
        RuntimeError, match=rf"^environment {fails}: TwoWordError: lost balance$"
    ) as caught:
        env.step(np.zeros(5, int))
    assert 'raise self.TwoWordError("lost", "balance")' in str(caught.value.__cause__)
    assert workers() == []
    env.close()


def test_a_process_that_is_killed_is_named():
    env = fragile("kill")
    env.reset()
    with pytest.raises(
        RuntimeError, match=r"a worker process has ended by itself: number 1 \(exit status -9\)"
    ):
        env.step(np.zeros(5, int))
    assert workers() == []


def test_closing_ends_the_processes_in_every_state(tmp_path):
    for begin in ("", "reset", "step"):
        env = in_processes("CartPole-v1", 3, monitor_dir=str(tmp_path / begin))
        assert len(workers()) == 1
        if begin:
            env.reset()
        if begin == "step":
            env.step_async(np.zeros(3, int))
        env.close()
        env.close()
        assert workers() == []
    env = in_processes("CartPole-v1", 2)
    del env
    gc.collect()
    assert workers() == []


SCRIPT = """
import numpy as np, os, signal, sys, time
import psutil
from sb3_natural import make_vec_env

def main():
    env = make_vec_env("CartPole-v1", 2, backend="processes", vec_env_kwargs=dict(n_processes=2))
    env.reset()
    print(*(process.pid for process in env._workers._vector.processes), flush=True)
    {end}

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    "end",
    ["1 / 0", "os.kill(os.getpid(), signal.SIGKILL)"],
)
def test_no_process_survives_the_main_one(end, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(end=end))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 1, done.stderr
    for _ in range(100):
        if not any(psutil.pid_exists(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from sb3_natural import make_vec_env\n"
        "make_vec_env('CartPole-v1', 2, backend='processes')\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 1
    assert """below "if __name__ == '__main__':\"""" in done.stderr


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"^backend must be one of dummy, .*processes.*'process'"):
        make_vec_env("CartPole-v1", backend="process")
    for name, value in dict(n_processes=0, start_method="fork").items():
        with pytest.raises(ValueError, match=f"^{name} must be .*got {value!r}"):
            make_vec_env("CartPole-v1", backend="processes", vec_env_kwargs={name: value})
    with pytest.raises(ValueError, match=r"^env_fns must hold at least one"):
        ProcessVecEnv([])
    lock = threading.Lock()
    with pytest.raises(ValueError, match=r"cannot be sent to other processes: .*lock"):
        make_vec_env(lambda: lock and SpacesEnv(None, None), backend="processes")
    nested = spaces.Dict(a=spaces.Text(3))
    with pytest.raises(ValueError, match="observation space has Text"):
        in_processes(lambda: SpacesEnv(nested, spaces.Discrete(2)), 2)


def test_calls_in_the_wrong_order_or_shape_are_refused():
    env = in_processes("CartPole-v1", 2)
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(2,\), got shape \(3,\)"):
        env.step(np.zeros(3, int))
    with pytest.raises(RuntimeError, match="without step_async"):
        env.step_wait()
    env.step_async(np.zeros(2, int))
    for call in (lambda: env.step_async(np.zeros(2, int)), lambda: env.get_attr("spec")):
        with pytest.raises(RuntimeError, match="between step_async"):
            call()
    assert env.reset().shape == (2, 4)
    env.close()
    with pytest.raises(RuntimeError, match="make a new ProcessVecEnv"):
        env.reset()


def test_monitor_files_are_written(tmp_path):
    env = in_processes("CartPole-v1", 3, seed=0, start_index=2, monitor_dir=str(tmp_path))
    env.reset()
    lengths = []
    for _ in range(60):
        infos = env.step(np.zeros(3, int))[3]
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
    env.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i}.monitor.csv" for i in (2, 3, 4)]
    assert sorted(load_results(str(tmp_path))["l"]) == sorted(lengths)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "n_steps"),
    [
        (NPG, "HalfCheetah-v5", 32),
        (PPO, "CartPole-v1", 32),
        (TRPO, "Pendulum-v1", 32),
        (ACER, "CartPole-v1", 8),
    ],
)
def test_algorithms_learn_what_they_learn_in_one_process(algorithm, env_id, n_steps, tmp_path):
    trained = []
    for backend in ("dummy", "processes"):
        options = TWO if backend == "processes" else None
        made = dict(backend=backend, vec_env_kwargs=options)
        env = make_vec_env(env_id, 4, seed=1, normalize=True, **made)
        evaluated = EvalCallback(
            make_vec_env(env_id, 2, seed=2, normalize=True, **made),
            eval_freq=2 * n_steps,
            n_eval_episodes=2,
            verbose=0,
        )
        model = algorithm("MlpPolicy", env, n_steps=n_steps, seed=1)
        if env_id == "HalfCheetah-v5":
            model.learn(4 * n_steps * 2)
        else:
            model.learn(4 * n_steps * 2, callback=evaluated)
            assert evaluated.last_mean_reward != -np.inf
        model.save(tmp_path / backend)
        env.save(str(tmp_path / "statistics"))
        loaded = algorithm.load(tmp_path / backend, env=env)
        loaded.learn(4 * n_steps, reset_num_timesteps=False)
        assert isinstance(VecNormalize.load(str(tmp_path / "statistics"), env.venv), VecNormalize)
        trained.append(loaded.policy.state_dict())
        env.close()
        evaluated.eval_env.close()
    assert all(same(a.numpy(), b.numpy()) for a, b in zip(*map(dict.values, trained), strict=True))
