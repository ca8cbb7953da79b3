"""Published results beside ours: the values in each table."""

from __future__ import annotations

def cells_of(table: Table) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in table.rows]


def small(folders: RunFolders) -> pd.DataFrame:
    """Two algorithms of ours and a result of each kind."""
    folders.add("npg", seed=0, returns=[0.0, 600.0, 500.0], n_timesteps=1_000)
    folders.add("npg", seed=1, returns=[0.0, 620.0, 540.0], n_timesteps=1_000)
    folders.add("ppo", seed=0, returns=[0.0, 400.0, 300.0], n_timesteps=1_000)
    first = {"source": "owner/first-lab README.md", "metric": "highest, 10 seeds"}
    return compared(
        folders,
        {**first, "kind": BEST, "algo": "trpo", "mean": 580.25, "timesteps": 1_000.0},
        {**first, "kind": BEST, "algo": "a2c", "mean": 700.0, "timesteps": 9_000.0},
        {"kind": FINAL, "mean": 520.0, "timesteps": math.nan, "n_seeds": 1, "note": "a | b"},
        {"kind": TRAINING, "source": "A paper, 2017", "std": math.nan, "mean": 510.0},
    )


def test_the_table_of_an_environment(folders: RunFolders) -> None:
    ((env_id, table),) = published.tables(small(folders))
    assert env_id == "CartPole-v1"
    assert table.headers == [
        "metric",
        "algorithm",
        "mean",
        "±",
        "runs",
        "steps",
        "source",
        "what differs from ours",
    ]
    here, lab, own = "this report", "first-lab", "repository"
    assert cells_of(table) == [
        [BEST, "a2c", "**700.0**", "12.5", "5", "9,000", lab, "budget ×9"],
        [BEST, "npg", "**610.0**", "14.1", "2", "1,000", here, ""],
        [BEST, "trpo", "580.2", "12.5", "5", "1,000", lab, ""],
        [BEST, "ppo", "400.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(FINAL, "npg", "**520.0**", "12.5", "1", "–", own),
            "budget not said; 100 episodes; ± over episodes",
        ],
        [FINAL, "npg", "**520.0**", "28.3", "2", "1,000", here, ""],
        [FINAL, "ppo", "300.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(TRAINING, "npg", "**510.0**", "–", "5", "50,000", "A paper, 2017"),
            "budget ×50; none of ours",
        ],
    ]


def test_one_run_of_ours_is_never_bold(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])  # the highest
    ((_, table),) = published.tables(compared(folders, {"metric": "p", "mean": 200.0}))
    assert [row[1:4] for row in cells_of(table)] == [
        ["ppo", "400.0", "(1 seed)"],
        ["npg", "**310.0**", "14.1"],
        ["npg", "**200.0**", "12.5"],
    ]


def test_where_all_of_ours_are_single_runs_none_is_bold(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 300.0])
    ((_, table),) = published.tables(compared(folders, {"metric": "p", "n_seeds": 1}))
    assert [(row[2], row[6]) for row in cells_of(table)] == [
        ("**480.5**", "repository"),
        ("300.0", "this report"),
    ]


def test_what_differs_is_said_for_each_budget_of_ours(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    data = runs.load(folders.root, allow_mixed=True)
    frame = published.for_runs(data, results({"metric": "p", "timesteps": 50_000.0}))
    ((_, table),) = published.tables(frame)
    (theirs,) = [row for row in cells_of(table) if row[6] == "repository"]
    assert theirs[-1] == "budget ×0.5 or nothing"


def test_tables_are_aligned_in_the_source(study: RunFolders) -> None:
    frame = published.for_runs(runs.load(study.root), PACKAGED)
    tables = published.tables(frame)
    assert [env_id for env_id, _ in tables] == ["CartPole-v1", "HalfCheetah-v5"]
    for table in (published.measures(frame), *(table for _, table in tables)):
        assert len({len(line) for line in table.markdown().splitlines()}) == 1


def test_the_tables_of_environments_have_few_columns_and_short_cells(study: RunFolders) -> None:
    for _, table in published.tables(published.for_runs(runs.load(study.root), PACKAGED)):
        assert len(table.headers) == 8
        assert max(len(row[-1]) for row in table.rows) <= 70


def shortfalls(folders: RunFolders) -> pd.DataFrame:
    """NPG and PPO on two environments; what has another algorithm, metric or budget is in it."""
    for seed, final in enumerate([390.0, 410.0]):
        folders.add("npg", seed=seed, returns=[0.0, 450.0, final])
    folders.add("ppo", seed=0, returns=[0.0, 100.0, 50.0])
    folders.add("ppo", "Pendulum-v1", seed=0, returns=[-1_500.0, -300.0])
    plain = {"metric": "p", "n_seeds": 10}
    return compared(
        folders,
        {**plain, "mean": 500.0},  # npg: 400, 20% lower
        {**plain, "kind": BEST, "mean": 450.0},  # npg: equal
        {**plain, "algo": "ppo", "mean": 200.0},  # ppo: 50, 75% lower
        {**plain, "algo": "ppo", "mean": 10.0, "timesteps": 100_000.0},  # another budget
        {**plain, "algo": "ppo", "kind": TRAINING, "mean": 300.0},  # none of ours
        {**plain, "algo": "a2c", "mean": 90.0},  # no such algorithm of ours
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -200.0},  # ppo: -300, 50% lower
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -600.0, "n_seeds": 1},
    )


def test_ours_against_the_same_algorithm_the_furthest_shortfall_first(
    folders: RunFolders,
) -> None:
    frame = shortfalls(folders)
    table = published.same_algorithm(frame)
    assert table is not None
    assert table.headers == [
        "environment",
        "algorithm",
        "metric",
        "ours",
        "seeds",
        "theirs",
        "source",
        "difference",
        "what differs from ours",
    ]
    cart, pendulum, own = "CartPole-v1", "Pendulum-v1", "repository"
    assert cells_of(table) == [
        [cart, "ppo", FINAL, "50.0", "1 seed", "200.0", own, "-75%", "10 runs"],
        [pendulum, "ppo", FINAL, "-300.0", "1 seed", "-200.0", own, "-50%", "Pendulum-v0; 10 runs"],
        [cart, "npg", FINAL, "400.0", "2 seeds", "500.0", own, "-20%", "10 runs"],
        [cart, "npg", BEST, "450.0", "2 seeds", "450.0", own, "0%", "10 runs"],
        [pendulum, "ppo", FINAL, "-300.0", "1 seed", "-600.0", own, "+50%", "Pendulum-v0"],
    ]
    assert published.verdict(frame) == (
        "In 5 comparisons with a published result of the same algorithm, metric and budget, ours "
        "is lower in 3; the furthest: npg on CartPole-v1 (final policy, 2 seeds) by 20% and ppo on "
        "CartPole-v1 (final policy, 1 seed) by 75%."
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (99.0, 100.0, "-1.0%"),
        (99.99, 100.0, "0%"),
        (100.0, 100.0, "0%"),
        (90.0, 100.0, "-10%"),
        (1_000.0, 100.0, "+900%"),
        (-5.0, 0.0, "–"),
        (0.0, 0.0, "0%"),
    ],
)
def test_differences_are_relative_to_theirs(
    folders: RunFolders, ours: float, theirs: float, difference: str
) -> None:
    folders.add("npg", returns=[-9.0, ours])
    table = published.same_algorithm(compared(folders, {"metric": "p", "mean": theirs}))
    assert table is not None
    assert table.rows[0][7] == difference


def test_variants_of_an_algorithm_are_each_compared(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", hyperparams={"critic": critic, "gamma": 0.99})
    table = published.same_algorithm(compared(folders, {"metric": "p"}))
    assert table is not None
    assert [row[1] for row in table.rows] == ["npg (critic=adam)", "npg (critic=gauss_newton)"]


def test_where_nothing_is_of_the_same_algorithm_or_ours_is_never_lower_that_is_said(
    folders: RunFolders,
) -> None:
    folders.add("npg", returns=[0.0, 500.0])
    other = compared(folders, {"algo": "ppo"})
    assert published.same_algorithm(other) is None
    assert published.verdict(other).startswith("No published result is of the same algorithm")
    assert published.verdict(compared(folders, {"metric": "p"})) == (
        "In 1 comparison with a published result of the same algorithm, metric and budget, ours is "
        "never lower."
    )


def test_how_each_source_measures_is_said_once(folders: RunFolders) -> None:
    table = published.measures(small(folders))
    assert table.headers == [
        "source",
        "metric",
        "how it is measured",
        "versions",
        "runs",
        "note",
    ]
    evaluations = "of a run's 3 evaluations of 10 episodes"
    rows = cells_of(table)
    assert rows[0] == [
        *("this report", BEST),
        f"the highest {evaluations}, the one before training apart, mean over runs",
        *("v1", "1 to 2", ""),
    ]
    assert rows[1] == [
        *("this report", FINAL),
        f"the last {evaluations}, mean over runs",
        *("v1", "1 to 2", ""),
    ]
    assert rows[2] == ["this report", TRAINING, published.NO_MATCH, "–", "–", ""]
    assert "the nearest is the final return" in published.NO_MATCH
    assert rows[3:] == [
        ["A paper, 2017", TRAINING, "last policy, 100 episodes", "v1", "5", ""],
        ["first-lab", BEST, "highest, 10 seeds", "v1", "5", ""],
        ["repository", FINAL, "last policy, 100 episodes", "v1", "1", "a | b"],
    ]


def test_versions_and_numbers_of_runs_of_a_source_are_all_named(folders: RunFolders) -> None:
    folders.add("npg")
    folders.add("npg", "Pendulum-v1")
    frame = compared(
        folders,
        {"env_id": "CartPole-v0", "n_seeds": 3},
        {"env_id": "Pendulum-v1", "n_seeds": 4},
        {"env_id": "Pendulum", "n_seeds": 10},
    )
    table = published.measures(frame)
    assert "note" not in table.headers
    assert cells_of(table)[-1][3:] == ["not said, v0, v1", "3 to 10"]


def test_the_section_has_the_shortfalls_first_and_sources_before_the_tables(
    folders: RunFolders,
) -> None:
    shortfalls(folders)
    made = published.literature_of(
        runs.load(folders.root),
        results({"n_seeds": 10}, {"mean": 700.0, "timesteps": 2e6, "source": "a/b c.md"}),
    )
    assert made is not None
    text = template("literature.md.j2").render(literature=made)
    order = [
        "## Against the literature\n\nIn 1 comparison with",
        "\n\n| environment | algorithm |",
        "- CartPole-v1: final policy 400.0 (npg, 2 seeds) against 480.5",
        "### Sources and how they measure\n\n| source ",
        "- **b**: [a/b](https://github.com/a/b) c.md",
        "- **Difference**",
        "### CartPole-v1: ours and published results\n\n| metric ",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "\n\n\n" not in text
    assert text.endswith("|\n\n")


def test_there_is_no_section_where_nothing_is_published_or_wanted(folders: RunFolders) -> None:
    folders.add("npg", "MountainCarContinuous-v0")
    data = runs.load(folders.root)
    assert published.literature_of(data, PACKAGED) is None
    assert published.literature_of(data, None) is None


def test_sentences_say_who_is_higher_by_how_much_and_what_differs(folders: RunFolders) -> None:
    # Another result is higher, but with nine times the budget.
    assert published.sentences(small(folders)) == [
        "CartPole-v1: best evaluation 610.0 (npg, 2 seeds) against 580.2 (trpo, first-lab), 5% "
        "higher; final policy 520.0 (npg, 2 seeds) against 520.0 (npg, repository, budget not "
        "said), equal."
    ]


def test_a_sentence_prefers_what_has_two_or_more_seeds(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])
    assert published.sentences(compared(folders, {"metric": "p", "mean": 200.0})) == [
        "CartPole-v1: final policy 310.0 (npg, 2 seeds) against 200.0 (npg, repository), 55% "
        "higher."
    ]


def test_a_published_mean_of_zero_gives_no_percentage(folders: RunFolders) -> None:
    folders.add("npg", returns=[-9.0, -5.0])
    frame = compared(folders, {"metric": "p", "mean": 0.0})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy -5.00 (npg, 1 seed) against 0.00 (npg, repository), 5.00 lower."
    ]
    assert published.verdict(frame).endswith("npg on CartPole-v1 (final policy, 1 seed).")


def test_a_sentence_where_ours_is_lower(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 100.0])
    frame = compared(folders, {"n_seeds": 1, "metric": "p", "mean": 101.5})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 100.0 (npg, 1 seed) against 101.5 (npg, repository), 1% lower."
    ]
    near = compared(folders, {"n_seeds": 1, "metric": "p", "mean": 100.3})
    assert published.sentences(near)[0].endswith(", less than 1% lower.")


def test_a_sentence_where_several_share_the_highest(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 500.0])
    folders.add("npg", seed=1, returns=[0.0, 500.0])
    folders.add("ppo", seed=0, returns=[0.0, 500.0])
    folders.add("ppo", seed=1, returns=[0.0, 500.0])
    folders.add("ppo", seed=2, returns=[0.0, 500.0])
    far = {"mean": 500.0, "timesteps": 500_000.0, "metric": "p", "algo": "a2c"}
    frame = compared(folders, far, {**far, "timesteps": 100_000.0, "algo": "trpo"})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 500.0 (npg and ppo, 2–3 seeds) against 500.0 (trpo, repository, "
        "and 1 more, budget ×2), equal."
    ]


def test_a_sentence_where_nothing_of_ours_matches(folders: RunFolders) -> None:
    folders.add("npg", "Humanoid-v5")
    rows = [{"env_id": "Humanoid-v5", "kind": TRAINING, "mean": mean} for mean in (1.0, 2_661.0)]
    frame = compared(folders, *rows)
    assert published.sentences(frame) == [
        "Humanoid-v5: the highest published is 2,661 (npg, repository), by the metric training "
        "returns, by which there is nothing of ours."
    ]


def test_sources_have_short_names_and_addresses(folders: RunFolders) -> None:
    folders.add("npg")
    one, two = "owner/name a.md", "owner/name b.md"
    others = ["https://example.org/x.html", "doi 10.1000/182", "10.1000/182", "DLR-RM/zoo"]
    frame = compared(folders, *({"source": source} for source in (one, two, *others)))
    assert published.sources(frame) == [
        "**10.1000/182**: 10.1000/182",
        "**doi 10.1000/182**: doi 10.1000/182",
        "**https://example.org/x.html**: <https://example.org/x.html>",
        "**owner/name a.md**: [owner/name](https://github.com/owner/name) a.md",
        "**owner/name b.md**: [owner/name](https://github.com/owner/name) b.md",
        "**zoo**: [DLR-RM/zoo](https://github.com/DLR-RM/zoo)",
    ]
    # What each measures stands in the table that they follow.
    table = published.measures(frame)
    assert {tuple(row[1:3]) for row in table.rows[1:]} == {(FINAL, "last policy, 100 episodes")}
    assert [row[0] for row in table.rows[1:]] == [
        line.split("**")[1] for line in published.sources(frame)
    ]


def test_notes_say_how_the_tables_are_to_be_read(folders: RunFolders) -> None:
    lines = published.notes(small(folders))
    assert [line.split("**")[1] for line in lines] == [
        "Difference",
        "±",
        "Bold",
        "Best evaluation",
    ]
    assert "the highest of ours of two or more runs" in lines[2]


def test_the_same_input_gives_the_same_output_and_is_left_as_it_is(study: RunFolders) -> None:
    data, before = runs.load(study.root), PACKAGED.copy()
    first = published.for_runs(data, PACKAGED)
    shuffled = runs.RunData(
        data.runs.sample(frac=1, random_state=0),
        data.evaluations.sample(frac=1, random_state=0),
        data.failures,
    )
    for second in (
        published.for_runs(data, PACKAGED),
        published.for_runs(shuffled, PACKAGED),
    ):
        pd.testing.assert_frame_equal(first, second)
        assert published.tables(first) == published.tables(second)
        assert published.sentences(first) == published.sentences(second)
        assert published.sources(first) == published.sources(second)
        assert published.same_algorithm(first) == published.same_algorithm(second)
        assert published.measures(first) == published.measures(second)
        assert published.verdict(first) == published.verdict(second)
    pd.testing.assert_frame_equal(PACKAGED, before)
