# Set-up happens once and again only when pyproject.toml or constraints.txt change.
VENV   := .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help setup demo report docs-figures speed large sensitivity docs test test-slow test-oldest \
	test-peers test-install check clean

help:
	@echo "make demo       set up, train NPG, TRPO, PPO and ACER on two tasks, write demo/report/report.md"
	@echo "make report     the reports on the results that are stored in docs/results, written to report/"
	@echo "make docs-figures  the tables and figures of README.md and docs/, from the same results"
	@echo "make speed      set up, peers included, measure speed beside them, write speed/speed.md"
	@echo "make large      how long a report over 1,000 runs takes, and how much memory"
	@echo "make sensitivity  the studies of docs/sensitivity.md (about six hours of one core; it resumes)"
	@echo "make docs       the documentation as a site, with every tutorial executed: site/index.html"
	@echo "make test       set up, run the tests"
	@echo "make test-slow  the learning checks (about 6 minutes on 2 cores)"
	@echo "make test-oldest  the plugin's tests with the oldest versions it supports (.venv-oldest)"
	@echo "make test-peers    what is compared with PFRL and DI-engine, W&B and MLflow (.venv-peers)"
	@echo "make test-install  the wheel with each extra in a fresh environment (about 10 minutes)"
	@echo "make check      ruff and mypy"
	@echo "make clean      remove the virtual environment and caches"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is older \
	than Python 3.11, which these versions need; name another one: make PYTHON=python3.11 ...")'
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[suite,test,docs]"
	touch $@

DEMO := $(PY) -m benchmarks run demo --algos npg,trpo,ppo,acer --seeds 3 --jobs $(JOBS) --out demo/runs

demo: $(READY)
	$(DEMO)
	$(PY) -m reports build demo/runs --out demo/report --title "NPG, TRPO, PPO and ACER: the demo"
	@echo "Look at demo/report/report.html (one page), or demo/report/report.md"

# What is stored is read as folders of runs are. About 5 minutes on 2 cores.
REPORT := $(PY) -m reports build
STORED := docs/results

report: $(READY)
	$(REPORT) $(STORED)/npg --published --out report/npg --title "NPG: one set for every task"
	$(REPORT) $(STORED)/defaults --published --out report/defaults --title "TRPO and PPO: one set"
	$(REPORT) $(STORED)/searched --published --out report/searched --title "TRPO and PPO: one set, searched"
	$(REPORT) $(STORED)/runs --published --out report/runs --title "MuJoCo and classic control"
	$(REPORT) $(STORED)/runs/classic --out report/classic --title "Classic control and LunarLander"
	$(REPORT) $(STORED)/learning --out report/learning --title "The learning checks"
	$(REPORT) --studies $(STORED_STUDIES) --studies-root $(STORED)/studies --out report/studies \
		--title "How much delta, epsilon and c matter"

docs-figures: $(READY)
	$(PY) -m docs.generate

# About 10 minutes on 2 cores, installation included; they should have nothing else to do.
speed: $(READY)
	$(PY) -m benchmarks speed --peers --out speed

large: $(READY)
	$(PY) -m tests.reports.large

# What docs/sensitivity.md is about; the studies go on where they were stopped. On CartPole nearly
# every value ends at 500, so what counts is how soon: the area under the curve.
GRID       := --sampler grid --jobs $(JOBS)
STUDY      := $(PY) -m studies
CARTPOLE   := --env CartPole-v1 --objective area $(GRID)
LONGER     := --steps 100000 $(GRID)
IN_MUJOCO   = $(foreach algo,npg trpo ppo,$(algo)-Hopper-v5 $(algo)-HalfCheetah-v5)
ACERS       = acer-CartPole-v1 acer-LunarLander-v3
REPORTED    = $(patsubst %,%-CartPole-v1,npg trpo ppo npg-step_size ppo-learning_rate) \
	$(IN_MUJOCO) $(ACERS)
COMMA      := ,
SPACE      := $(COMMA:,=) $(COMMA:,=)
STORED_STUDIES = $(subst $(SPACE),$(COMMA),$(strip $(REPORTED)))

sensitivity: $(READY)
	$(STUDY) run --algo npg --trials 10 --seeds 5 $(CARTPOLE)
	$(STUDY) run --algo trpo --trials 10 --seeds 5 $(CARTPOLE)
	$(STUDY) run --algo ppo --trials 20 --seeds 5 $(CARTPOLE)
	$(STUDY) run --algo npg --params step_size --trials 8 --seeds 3 $(CARTPOLE) \
		--name npg-step_size-CartPole-v1
	$(STUDY) run --algo ppo --params learning_rate --trials 8 --seeds 3 $(CARTPOLE) \
		--name ppo-learning_rate-CartPole-v1
	$(STUDY) run --algo npg --env Hopper-v5 --trials 6 --seeds 5 $(LONGER)
	$(STUDY) run --algo npg --env HalfCheetah-v5 --trials 6 --seeds 5 $(LONGER)
	$(STUDY) run --algo trpo --env Hopper-v5 --trials 6 --seeds 4 $(LONGER)
	$(STUDY) run --algo trpo --env HalfCheetah-v5 --trials 6 --seeds 4 $(LONGER)
	$(STUDY) run --algo ppo --env Hopper-v5 --trials 6 --seeds 2 $(LONGER)
	$(STUDY) run --algo ppo --env HalfCheetah-v5 --trials 6 --seeds 4 $(LONGER)
	$(STUDY) run --algo acer --trials 10 --seeds 3 $(CARTPOLE)
	$(STUDY) run --algo acer --env LunarLander-v3 --trials 10 --seeds 3 $(LONGER)
	set -e; for name in npg trpo; do \
		$(STUDY) sensitivity $$name-CartPole-v1 --points 9 --jobs $(JOBS); done
	set -e; for name in npg-step_size ppo-learning_rate; do \
		$(STUDY) sensitivity $$name-CartPole-v1 --points 7 --jobs $(JOBS); done
	$(STUDY) sensitivity ppo-CartPole-v1 --points 19 --jobs $(JOBS)
	set -e; for name in $(IN_MUJOCO) $(ACERS); do \
		$(STUDY) sensitivity $$name --points 5 --jobs $(JOBS); done
	$(STUDY) pruning ppo-CartPole-v1
	$(REPORT) --studies $(STORED_STUDIES) --out sensitivity \
		--title "How much delta, epsilon and c matter"

# Warnings are errors. Notebooks are executed again only when they have changed.
docs: $(READY)
	rm -rf site docs/reference/api
	$(PY) -m sphinx -q --fail-on-warning --keep-going -b html -d build/doctrees docs site
	$(PY) -m pytest tests/site
	@echo "Look at site/index.html"

# Compiled once: tests start many processes, and Python may be told not to write bytecode by itself.
test: $(READY)
	$(PY) -m compileall -q sb3_natural benchmarks studies reports tests
	$(PY) -m pytest -n $(JOBS) --dist loadgroup -m "not slow and not install"

test-slow: $(READY)
	$(PY) -m pytest -n $(JOBS) -m slow --timeout 5400

# The oldest versions that the plugin supports, on the oldest Python: about 7 GB on Linux, where these
# PyTorch wheels bring CUDA. What needs the suite's packages is left out.
OLDEST       := .venv-oldest
PLUGIN       := $(addprefix tests/,npg acer acktr nac natural_dqn curvature rollouts environments \
	networks updates $(addprefix test_,arguments.py baselines.py loading.py models_of_0_1.py \
	signatures.py spaces.py whole_family.py))
NEED_SUITE   := tests/npg/test_masks.py $(addsuffix /test_learning.py,tests/npg tests/acer tests/nac)
OLDEST_TESTS := pytest pytest-timeout curvlinops-for-pytorch "gymnasium[mujoco]" psutil scipy \
	tensorboard

$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints-oldest.txt -e ".[envpool]" $(OLDEST_TESTS)
	touch $@

test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -m "not slow and not install" $(PLUGIN) \
		$(addprefix --ignore=,$(NEED_SUITE))

# In the environment that make speed measures the peers in.
test-peers: $(READY)
	$(PY) -m benchmarks.speed.peers
	.venv-peers/bin/python -m pytest tests/peers

test-install: $(READY)
	$(PY) -m pytest -m install tests/test_packaging.py

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .venv-peers .mypy_cache .pytest_cache .ruff_cache build dist site jupyter_execute docs/reference/api
