"""The replay buffer against plain lists of transitions, over random histories."""

import io
import json
import pickle
import tracemalloc
import zipfile
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from scipy.stats import chi2

from sb3_natural.acer.buffers import SegmentBuffer
from tests.helpers import OBSERVATION_SPACES

SPACES = {
    "box": (OBSERVATION_SPACES["mlp"], spaces.Discrete(4)),
    "matrix": (spaces.Box(-1, 1, (2, 3), np.float64), spaces.Box(-1, 1, (2, 2))),
    "discrete": (OBSERVATION_SPACES["discrete"], spaces.Box(-1, 1, (2,))),
    "multi": (spaces.MultiDiscrete([3, 5]), spaces.MultiDiscrete([2, 3])),
    "image": (spaces.Box(0, 255, (1, 5, 4), np.uint8), spaces.MultiBinary(3)),
    "dict": (
        spaces.Dict(
            image=spaces.Box(0, 255, (1, 5, 4), np.uint8),
            vector=spaces.Box(-1, 1, (3,)),
            mode=spaces.Discrete(3),
        ),
        spaces.Discrete(2),
    ),
}
K = 3


class Transition(NamedTuple):
    observation: Any
    action: Any
    statistics: np.ndarray
    next_observation: Any
    terminal: bool
    continues: bool


def stack(space, samples):
    """What a VecEnv makes of the observations of several environments."""
    if isinstance(space, spaces.Dict):
        return {key: stack(part, [s[key] for s in samples]) for key, part in space.spaces.items()}
    return np.stack([np.asarray(sample, dtype=space.dtype) for sample in samples])


def rows_equal(array, row, sample):
    if isinstance(array, dict):
        return all(rows_equal(array[key], row, sample[key]) for key in array)
    return np.array_equal(array[row], sample)


def parts(array, space):
    """The arrays that observations consist of, each with its space."""
    if isinstance(space, spaces.Dict):
        return [(array[key], part) for key, part in space.spaces.items()]
    return [(array, space)]


def same(first, second):
    if isinstance(first, dict):
        return all(same(first[key], second[key]) for key in first)
    return np.array_equal(first, second)


def poison(array):
    """An environment may overwrite what it has returned."""
    for part in array.values() if isinstance(array, dict) else [array]:
        part[...] = 1


class History:
    """Plays random episodes into a buffer and remembers every transition there ever was.

    A step's reward is its number, by which a segment can be told from any other.
    """

    def __init__(self, kind="box", capacity=6, n_envs=2, p_terminal=0.2, p_limit=0.2, seed=0):
        self.observation_space, self.action_space = SPACES[kind]
        self.observation_space.seed(seed)
        self.action_space.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.capacity, self.n_envs = capacity, n_envs
        self.p_terminal, self.p_limit = p_terminal, p_limit
        # The remainder is less than a step of all environments.
        self.buffer = SegmentBuffer(
            (capacity + 1) * n_envs - 1, self.observation_space, self.action_space, K, n_envs
        )
        self.steps: list[list[Transition]] = [[] for _ in range(n_envs)]
        self.seen = [self.observation_space.sample() for _ in range(n_envs)]
        self.resume()

    @property
    def n_added(self):
        return len(self.steps[0])

    @property
    def size(self):
        return min(self.n_added, self.capacity)

    def resume(self, moved=()):
        """Another rollout, before which some environments may have been reset."""
        for env in moved:
            before, self.seen[env] = self.seen[env], self.observation_space.sample()
            # What looks the same cannot be known to be something else.
            if self.steps[env] and not same(before, self.seen[env]):
                self.steps[env][-1] = self.steps[env][-1]._replace(continues=False)
        shown = stack(self.observation_space, self.seen)
        self.buffer.resume(shown)
        poison(shown)

    def step(self):
        kinds = self.rng.random(self.n_envs)
        terminals = kinds < self.p_terminal
        limits = ~terminals & (kinds < self.p_terminal + self.p_limit)
        actions = np.stack([self.action_space.sample() for _ in range(self.n_envs)])
        statistics = self.rng.normal(size=(self.n_envs, K)).astype(np.float32)
        rewards = self.n_added * self.n_envs + np.arange(self.n_envs, dtype=np.float32)
        reached = [self.observation_space.sample() for _ in range(self.n_envs)]
        shown, last = list(reached), {}
        for env in range(self.n_envs):
            ended = bool(terminals[env] or limits[env])
            if ended:
                shown[env] = self.observation_space.sample()
            if limits[env]:
                last[env] = reached[env]
            self.steps[env].append(
                Transition(
                    self.seen[env],
                    actions[env].copy(),
                    statistics[env].copy(),
                    reached[env],
                    bool(terminals[env]),
                    not ended,
                )
            )
        self.seen = shown
        given = stack(self.observation_space, shown)
        self.buffer.add(actions, rewards, statistics, given, terminals | limits, last)
        for array in (actions, rewards, statistics, given):
            poison(array)

    def play(self, n_steps):
        for _ in range(n_steps):
            self.step()
        return self

    def observation(self, env, time):
        """What an environment showed before a step, or shows now."""
        return self.seen[env] if time == self.n_added else self.steps[env][time].observation

    def check(self, segments, n_steps):
        """Compare with what happened; where each segment began: [(env, time)]."""
        n_segments = len(segments.ages)
        assert segments.rewards.shape == (n_steps, n_segments)
        assert segments.terminals.dtype == segments.continues.dtype == bool
        assert segments.actions.dtype == self.action_space.dtype
        observations = segments.observations
        n_cut = (~segments.terminals & ~segments.continues).sum()
        for array, part in parts(observations, self.observation_space):
            assert array.dtype == part.dtype
            assert array.shape == ((n_steps + 1) * n_segments + n_cut, *part.shape)
            assert segments.next_rows.min() >= 0
            assert segments.next_rows.max() < len(array)
        starts = []
        for i in range(n_segments):
            start, env = divmod(int(segments.rewards[0, i]), self.n_envs)
            starts.append((env, start))
            assert segments.ages[i] == (self.n_added - start) * self.n_envs
            for t in range(n_steps + 1):
                shown = self.observation(env, start + t)
                assert rows_equal(observations, t * n_segments + i, shown)
            for t in range(n_steps):
                step = self.steps[env][start + t]
                assert segments.rewards[t, i] == (start + t) * self.n_envs + env
                assert segments.actions[t, i].shape == self.action_space.shape
                assert np.array_equal(segments.actions[t, i], step.action)
                assert np.array_equal(segments.statistics[t, i], step.statistics)
                assert segments.terminals[t, i] == step.terminal
                assert segments.continues[t, i] == step.continues
                row = segments.next_rows[t, i]
                if not step.terminal:  # nobody asks for the value of what follows
                    assert rows_equal(observations, row, step.next_observation)
        return starts

    def check_all(self, n_steps):
        """Check the latest segments, and samples enough to see each one there is."""
        latest = self.check(self.buffer.latest(n_steps), n_steps)
        assert latest == [(env, self.n_added - n_steps) for env in range(self.n_envs)]
        oldest = self.n_added - self.size
        every = {
            (env, start)
            for env in range(self.n_envs)
            for start in range(oldest, self.n_added - n_steps + 1)
        }
        sampled = self.buffer.sample(12 * len(every), n_steps, np.random.default_rng(0))
        assert set(self.check(sampled, n_steps)) == every


def n_bytes(thing):
    """Of all arrays that an object holds."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, spaces.Space):
        return 0
    if isinstance(thing, (list, tuple)):
        return sum(map(n_bytes, thing))
    parts = thing if isinstance(thing, dict) else getattr(thing, "__dict__", {})
    return sum(map(n_bytes, parts.values()))


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kind", SPACES)
def test_segments_are_what_happened(kind, n_envs):
    history = History(kind, capacity=6, n_envs=n_envs)
    for rollout in range(25):
        if rollout > 0:
            moved = np.flatnonzero(history.rng.random(n_envs) < 0.3)
            history.resume(moved if rollout % 2 else ())
        history.play(1 + int(history.rng.integers(4)))
        assert len(history.buffer) == history.size * n_envs
        history.check_all(n_steps=1 + rollout % history.size)
    assert history.n_added > 6 * history.capacity
    ends = [step for steps in history.steps for step in steps if not step.continues]
    assert 0 < sum(step.terminal for step in ends) < len(ends)


@pytest.mark.parametrize("capacity", [1, 2, 3, 11])
def test_every_capacity_wraps_around(capacity):
    history = History(capacity=capacity)
    for _ in range(5 * capacity + 3):
        history.step()
        for n_steps in {1, history.size}:
            history.check_all(n_steps)


def test_environments_that_show_the_same_are_not_cut():
    history = History(p_terminal=0, p_limit=0).play(3)
    history.resume()
    history.play(2)
    history.check_all(5)
    assert history.buffer.latest(5).continues.all()


def test_observations_of_another_precision_are_not_another_observation():
    space = spaces.Box(-1, 1, (1,))  # float32; 0.1 is not
    buffer = SegmentBuffer(8, space, spaces.Discrete(2), K, n_envs=1)
    shown = np.array([[0.1]])
    buffer.resume(shown)
    for _ in range(2):
        buffer.add(np.zeros(1), np.zeros(1), np.zeros((1, K)), shown, np.zeros(1, bool), {})
        buffer.resume(shown)
    assert buffer.latest(2).continues.all()


@pytest.mark.parametrize("ending", ["nothing", "terminal", "limit"])
def test_reset_from_outside_cuts_what_had_not_ended(ending):
    history = History(p_terminal=0, p_limit=0).play(4)
    history.p_terminal, history.p_limit = float(ending == "terminal"), float(ending == "limit")
    history.step()
    history.p_terminal = history.p_limit = 0.0
    for _ in range(2):  # the second reset finds the episode cut off already
        history.resume(moved=[1])
        history.check_all(5)
    history.step()
    history.check_all(6)
    segments = history.buffer.latest(2)
    assert segments.continues[0].tolist() == [ending == "nothing", False]
    assert segments.terminals[0].tolist() == [ending == "terminal"] * 2


def test_reset_before_the_first_step_cuts_nothing():
    history = History(p_terminal=0, p_limit=0)
    history.resume(moved=[0, 1])
    history.play(3)
    history.check_all(3)
    assert history.buffer.latest(3).continues.all()


def test_last_observations_come_and_go():
    history = History("dict", capacity=5, n_envs=3, p_terminal=0)
    sizes = []
    for p_limit in (0.0, 1.0, 0.0, 0.5, 0.0, 1.0, 0.0, 1.0):
        history.p_limit = p_limit
        for _ in range(2 * history.capacity):
            history.step()
            history.check_all(min(4, history.size))
        sizes.append(n_bytes(history.buffer))
        n_cut = (~history.buffer.latest(history.capacity).continues).sum()
        assert n_cut == {0.0: 0, 1.0: 3 * history.capacity}.get(p_limit, n_cut)
    assert sizes[0] < sizes[1]
    assert len(set(sizes[1:])) == 1


def test_an_observation_is_held_once():
    space = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    capacity, n_envs = 20, 3
    buffer = SegmentBuffer(capacity * n_envs, space, spaces.Discrete(4), K, n_envs)
    shown = np.zeros((n_envs, *space.shape), np.uint8)
    buffer.resume(shown)
    for _ in range(3 * capacity):
        buffer.add(np.zeros(3), np.zeros(3), np.zeros((3, K)), shown, np.ones(3, bool), {})
    one = space.sample().nbytes
    others = 100  # everything else that a step consists of
    assert n_bytes(buffer) <= (capacity + 1) * n_envs * (one + others)
    assert n_bytes(buffer) >= (capacity + 1) * n_envs * one


def test_every_segment_is_as_likely_as_any_other():
    history = History(capacity=6, n_envs=3).play(16)
    n_draws, n_steps = 24_000, 3
    segments = history.buffer.sample(n_draws, n_steps, np.random.default_rng(0))
    _, counts = np.unique(segments.rewards[0], return_counts=True)
    assert len(counts) == 4 * 3
    expected = n_draws / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.999, len(counts) - 1)
    # The draws of one batch have nothing to do with each other.
    start, env = np.divmod(segments.rewards[0].astype(int), 3)
    for drawn in (start, env):
        assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / n_draws**0.5
    assert abs(np.corrcoef(start, env)[0, 1]) < 4 / n_draws**0.5


def test_the_generator_decides_what_is_sampled():
    buffer = History(capacity=50).play(70).buffer
    first, again, other = (
        buffer.sample(8, 5, np.random.default_rng(seed)).rewards for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_segments_stay_as_they_are_while_the_buffer_goes_on():
    history = History("dict", p_limit=0.5).play(9)
    segments = history.buffer.latest(6), history.buffer.sample(9, 3, np.random.default_rng(0))
    kept = pickle.loads(pickle.dumps(segments))
    history.play(20)
    for segment, before in zip(segments, kept, strict=True):
        for array, copied in zip(segment, before, strict=True):
            assert same(array, copied)


@pytest.mark.parametrize("n_added", [0, 2, 5])
def test_no_segment_is_longer_than_what_is_held(n_added):
    history = History(capacity=3).play(n_added)
    with pytest.raises(ValueError, match=rf"n_steps={history.size + 1} .* {history.size} steps"):
        history.buffer.sample(2, history.size + 1, np.random.default_rng(0))


def saved(buffer):
    """What is in the file that a buffer writes: arrays, by name."""
    file = io.BytesIO()
    buffer.save(file)
    file.seek(0)
    with np.load(file) as held:
        return dict(held)


def loaded(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return SegmentBuffer.load(file)


@pytest.mark.parametrize("n_steps", [0, 3, 25])
@pytest.mark.parametrize("kind", SPACES)
def test_a_saved_buffer_goes_on(kind, n_steps):
    history = History(kind, p_limit=0.4).play(n_steps)
    history.buffer = loaded(saved(history.buffer))
    if history.size:
        history.check_all(min(4, history.size))
    history.buffer.check_fits(history.observation_space, history.action_space, K, 2)
    history.resume(moved=[0])
    history.play(9)
    history.check_all(4)


def test_a_broken_file_is_no_buffer():
    arrays = saved(History(p_limit=0.5).play(25).buffer)
    header = json.loads(str(arrays["header"]))
    changed = {
        "rewards": arrays["rewards"][1:],
        "actions": arrays["actions"].astype(np.float64),
        "cut_at": arrays["cut_at"] + 1000,
        "observations": np.array([{"a": 1}, None]),
        "cuts": arrays["cuts"][:1],
        "header": np.array("{"),
    }
    for name, array in changed.items():
        with pytest.raises(ValueError, match=r"^not one of ACER's replay buffers \(.*"):
            loaded(arrays | {name: array})
        with pytest.raises(ValueError, match=rf"^not one of ACER's replay buffers .*{name}"):
            loaded({key: held for key, held in arrays.items() if key != name})
    for name, value in dict(size=99, n_added=-1, n_before=26, cuts=[8, 9, 3], n_envs=0).items():
        with pytest.raises(ValueError, match=r"^not one of ACER's replay buffers"):
            loaded(arrays | {"header": np.array(json.dumps(header | {name: value}))})
    unknown = header | {"observation_space": {"space": "Tuple"}}
    with pytest.raises(ValueError, match="'Tuple' is not a kind of space"):
        loaded(arrays | {"header": np.array(json.dumps(unknown))})


BAD_HEADERS = [
    ("n_added", 2**63 - 2),
    ("n_added", 25.0),
    ("n_added", 3),
    ("n_before", -1),
    ("n_before", "1"),
    ("size", True),
    ("size", 5),
    ("capacity", 2**40),
    ("capacity", 6.0),
    ("n_envs", 10**12),
    ("n_envs", 2.0),
    ("n_statistics", 10**12),
    ("n_statistics", None),
    ("format", 1.0),
    ("cuts", [8, 0]),
    ("cuts", [8, 0, 2.0]),
    ("cuts", 5),
    ("cuts", [2**40, 0, 1]),
    ("action_space", {"space": "Discrete"}),
]


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS, ids=str)
def test_a_header_that_cannot_be_is_refused(name, value):
    arrays = saved(History(p_limit=0.5).play(25).buffer)
    header = json.loads(str(arrays["header"])) | {name: value}
    with pytest.raises(ValueError, match=r"^not one of ACER's replay buffers"):
        loaded(arrays | {"header": np.array(json.dumps(header))})


@pytest.mark.parametrize("n_added", [2**63 - 2, 2**62, 25.0])
def test_a_number_of_steps_that_cannot_be_is_refused(n_added):
    """Though nothing else in the file contradicts it."""
    arrays = saved(History(p_limit=0).play(25).buffer)
    header = json.loads(str(arrays["header"])) | {"n_added": n_added}
    with pytest.raises(ValueError, match=r"its n_added must be an integer from 0 to "):
        loaded(arrays | {"header": np.array(json.dumps(header))})


@pytest.mark.parametrize("header", ["5", "[]", "{}", "[" * 10**5])
def test_a_header_of_another_kind_is_refused(header):
    arrays = saved(History().buffer)
    with pytest.raises(ValueError, match=r"^not one of ACER's replay buffers"):
        loaded(arrays | {"header": np.array(header)})


def with_value(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


BAD_VALUES = [
    ("box", "rewards", np.nan, "rewards are not finite"),
    ("box", "statistics", np.inf, "statistics are not finite"),
    ("box", "observations", np.nan, "observations are not finite"),
    ("dict", "observations/vector", -np.inf, "observations/vector are not finite"),
    ("dict", "observations/mode", 3, r"observations/mode are not in Discrete\(3\)"),
    ("box", "cuts", np.nan, "cuts are not finite"),
    ("discrete", "actions", np.nan, "actions are not finite"),
    ("box", "actions", 4, r"actions are not in Discrete\(4\)"),
    ("box", "actions", -1, r"actions are not in Discrete\(4\)"),
    ("multi", "actions", 2, r"actions are not in MultiDiscrete\(\[2 3\]\)"),
    ("image", "actions", 2, r"actions are not in MultiBinary\(3\)"),
]


@pytest.mark.parametrize(("kind", "name", "value", "message"), BAD_VALUES)
def test_values_that_cannot_be_are_refused(kind, name, value, message):
    arrays = saved(History(kind, p_limit=0.5).play(25).buffer)
    with pytest.raises(ValueError, match=rf"^not one of ACER's replay buffers .*its {message}"):
        loaded(arrays | {name: with_value(arrays[name], value)})


def test_cuts_that_cannot_be_are_refused():
    arrays = saved(History(p_limit=0.5).play(25).buffer)
    cut_at = arrays["cut_at"]
    first, second = np.unique(cut_at[cut_at >= 0])[-2:]
    twice = np.where(cut_at == second, first, cut_at)
    forgotten = np.where(cut_at == second, -1, cut_at)
    for changed in (
        {"cut_at": twice},
        {"cut_at": forgotten},
        {"terminals": arrays["terminals"] | (cut_at == second)},
    ):
        with pytest.raises(ValueError, match="its counts contradict each other"):
            loaded(arrays | changed)
    loaded(arrays)
    odd = with_value(arrays["terminals"].view(np.uint8), 2).view(bool)
    with pytest.raises(ValueError, match="terminals are neither True nor False"):
        loaded(arrays | {"terminals": odd})


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def npy_file(array, shape):
    """An npy file whose header says another shape than the array's."""
    content = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array) | {"shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue() + array.tobytes()


@pytest.mark.parametrize("bomb", ["compressed", "declared", "header", "other shape"])
def test_a_file_does_not_make_arrays_larger_than_itself(bomb):
    arrays = saved(History(capacity=6).play(9).buffer)
    header = json.loads(str(arrays["header"]))
    n = 2**22
    huge = header | {"capacity": n - 1}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            content, how = npy_file(array, array.shape), zipfile.ZIP_STORED
            if name == "header" and bomb == "header":
                content = npy_file(array, (2**20,))
            elif name == "header" and bomb != "other shape":
                content = npy_file(header_array := np.array(json.dumps(huge)), header_array.shape)
            elif bomb == "compressed" and name not in ("header", "cuts"):
                big, how = np.zeros((n, *array.shape[1:]), array.dtype), zipfile.ZIP_DEFLATED
                content = npy_file(big, big.shape)
            elif bomb == "declared" and name not in ("header", "cuts"):
                content = npy_file(array, (n, *array.shape[1:]))
            elif bomb == "other shape" and name == "rewards":
                content = npy_file(np.zeros(n, np.float32), (n,))
            archive.writestr(f"{name}.npy", content, how)

    def load():
        with pytest.raises(ValueError, match=r"^not one of ACER's replay buffers .*its \w+ are"):
            SegmentBuffer.load(file)

    assert peak_bytes(load) < 2**20


def test_what_fits_is_found_out_before_any_array_is_read():
    history = History().play(9)
    arrays = saved(history.buffer)
    other = SegmentBuffer(12, spaces.Discrete(2), history.action_space, K, 2)
    file = io.BytesIO()
    np.savez(file, header=arrays["header"])
    with pytest.raises(ValueError, match=r"its observation_space is Box.*Discrete\(2\)"):
        SegmentBuffer.load(file, other)
    with pytest.raises(ValueError, match="observations"):
        SegmentBuffer.load(file, history.buffer)


@pytest.mark.parametrize("kind", ["box", "dict"])
def test_a_pickled_buffer_goes_on(kind):
    history = History(kind).play(10)
    history.buffer = pickle.loads(pickle.dumps(history.buffer))
    history.check_all(4)
    history.buffer.check_fits(history.observation_space, history.action_space, K, 2)
    history.resume(moved=[0])
    history.play(9)
    history.check_all(4)


def test_a_buffer_says_why_it_does_not_fit():
    history = History()
    fitting = {
        "observation_space": history.observation_space,
        "action_space": history.action_space,
        "n_statistics": K,
        "n_envs": 2,
    }
    history.buffer.check_fits(**fitting)
    for name, wanted, message in [
        ("observation_space", spaces.Discrete(2), r"observation_space is Box.*Discrete\(2\)"),
        ("action_space", spaces.Discrete(5), r"action_space is Discrete\(4\).*Discrete\(5\)"),
        ("n_statistics", 4, "statistics is 3.*is 4"),
        ("n_envs", 1, "n_envs is 2.*is 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            history.buffer.check_fits(**{**fitting, name: wanted})
    history.buffer.format += 1
    with pytest.raises(ValueError, match="format"):
        history.buffer.check_fits(**fitting)
