"""How to read a report: what its words and numbers mean.

It is the same in every report on evaluations of this suite's own runs; of another metric, or of
other programs' runs, it says first what the metric is.
"""

from __future__ import annotations

from benchmarks.statistics import FEWEST_SEEDS, REPETITIONS
from benchmarks.tables import Code, Inline, Strong
from reports.data.aggregates import REPETITIONS as AGGREGATE_REPETITIONS
from reports.data.context import Context
from reports.data.logs import N_POINTS
from reports.data.metrics import EVALUATIONS, Metric
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING, TRAINING_WINDOW
from reports.data.verdicts import FALSE_ALARMS
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import listing
from studies.estimates import REPETITIONS as STUDY_REPETITIONS

# How often nominal 95% intervals of the mean contain it, by the number of seeds: of percentile
# bootstrap intervals over normal samples. Measured by tests/reports/sections/test_how_to_read.py,
# which fails when a figure here is no longer what it measures.
MEASURED_COVERAGE = {2: 0.50, 3: 0.75, 5: 0.84, 10: 0.90}


def _by_seeds(shares: dict[int, float]) -> str:
    """``75% with 3 seeds and 84% with 5 seeds``."""
    return listing([f"{share:.0%} with {n} seeds" for n, share in shares.items()])


# Either of two equal algorithms may be the one that is ahead.
_CHANCES = {n: 2 * share for n, share in FALSE_ALARMS.items() if n >= FEWEST_SEEDS}
_OF_TWO = 2 * FALSE_ALARMS[2]

READ_OFF: Inline = (
    f"They change as training goes on and keep their value in between. All runs of an environment "
    f"are therefore read off at the same steps, without interpolation: {N_POINTS} of them, evenly "
    "spread up to the end of the shortest run, from the first at which every run has a value. "
    "What is said of evaluations holds of these points."
)

SCORES: list[Inline] = [
    (
        "A ",
        Strong("return"),
        " is the sum of an episode's rewards. ",
        Strong("Final return"),
        ": the mean over the last tenth of a run's evaluations.",
    ),
    (
        Strong("Best evaluation"),
        ": the highest evaluation of a run, without the one before training. A maximum of noisy "
        "values is higher than what its policy returns on average.",
    ),
    (
        Strong("Area under curve"),
        ": the mean return over the training, that is, the area under the learning curve divided "
        "by its length. Of two algorithms that end level, the one that learned sooner has the "
        "larger area.",
    ),
    (
        "Each score is a mean over seeds, with its ",
        Strong("95% interval"),
        f" in brackets: rliable's percentile bootstrap over seeds ({REPETITIONS:,} resamples, "
        "fixed seed). With few seeds these intervals are too narrow: of normally distributed "
        "returns they contain the true mean not in 95% of cases, but in "
        f"{_by_seeds(MEASURED_COVERAGE)}.",
    ),
    (
        Strong("Steps"),
        " are those that were taken: whole rollouts may exceed the budget a little.",
    ),
]

METRICS: dict[str, list[Inline]] = {
    EVALUATION: [
        (
            Strong("Evaluation returns"),
            " are those of episodes for which training was interrupted, as Stable-Baselines3's "
            "EvalCallback makes them, usually without exploration. Each run's scores are of its "
            "own evaluations.",
        )
    ],
    TRAINING: [
        (
            Strong("Training returns"),
            f" are the mean return of the last {TRAINING_WINDOW} episodes, or of all as long as "
            "there are fewer, that the exploring policy had ended by a step. They are not "
            "evaluation returns: the policy took random actions, and it changed from one of these "
            "episodes to the next. They compare with training returns alone.",
        ),
        READ_OFF,
    ],
    SUCCESS_RATE: [
        (
            Strong("Success rate"),
            ": the share of an evaluation's episodes that were successful, by what the environment "
            "says of them. Where this page speaks of returns, read success rates.",
        )
    ],
}
OTHER_METRIC: list[Inline] = [
    "The values are what the runs have logged under one name, which may not mean the same in two "
    "programs. Where this page speaks of returns, read these values.",
    READ_OFF,
]
LOWER: Inline = (
    Strong("Lower is better"),
    ": the best value is the lowest, bold is the lowest mean and all that is not ahead of, and a "
    "run improves on another if it ends lower.",
)

COMPARISONS: list[Inline] = [
    (
        "The ",
        Strong("probability of improvement"),
        " is the share of all pairs of a run of one algorithm and a run of another in which the "
        "former ends higher; a tie counts half.",
    ),
    (
        "On one environment an algorithm is ",
        Strong("ahead"),
        f" of another if both have at least {FEWEST_SEEDS} seeds, the intervals of their means do "
        "not overlap, and the probability of improvement has a 95% interval above one half. Over "
        "several environments, that probability is averaged over them and decides alone. What is "
        "neither ahead nor ",
        Strong("behind"),
        " is ",
        Strong("level"),
        ": it cannot be told apart.",
    ),
    (
        Strong("Bold"),
        " in a column of scores: the highest mean and all that it is not ahead of. Bold in a "
        "column of aggregates: the best, and all whose intervals overlap with it.",
    ),
    (
        "With few seeds chance alone can decide: of two equal algorithms one is ahead in up to "
        f"{_by_seeds(_CHANCES)} each. With 2 seeds it would be {_OF_TWO:.0%}, so that there are ",
        Strong("too few seeds"),
        " for a verdict. Of many comparisons some are decided by chance.",
    ),
    "An interval without width is not certainty: every resample gave the same, as where all runs "
    "of one algorithm end above all of another. Over several environments, such an interval around "
    "a probability other than 0 and 1 decides nothing.",
]

TESTS: list[Inline] = [
    (
        Strong("p"),
        ": if two algorithms ended alike, their runs could be exchanged; in so many of all ways to "
        "deal the runs out to the two the means are as far apart, in either direction (an exact "
        "permutation test). With 3 seeds a side there are 20 ways, so that p is at least 0.1.",
    ),
    (
        Strong("p (Holm)"),
        ": corrected for the number of tests by Holm's step-down method, over all pairs of the "
        "report, or with a baseline that was named over the pairs with it. ",
        Strong("Bold"),
        ": at most 0.05, the difference survives. The chance that any survivor is a false alarm is "
        "then at most 5%. This stands beside the verdicts, which are not corrected, and does not "
        "change them.",
    ),
    (
        Strong("Hedges' g"),
        ": the difference of the means in standard deviations of a run, without the bias of few "
        "seeds (Hedges, 1981), with the 95% interval from the noncentral t distribution. It is for "
        "normally distributed returns of one variance. The probability of improvement, which is "
        "Vargha and Delaney's A, is the effect size that needs no such model.",
    ),
    (
        Strong("Found"),
        ": the power, how often so many seeds give p of at most 0.05, uncorrected, if the true "
        "difference is g; ",
        Strong("seeds for 80%"),
        ": a side, for finding it in four of five cases. The model is that of g, with Student's t "
        "at the level that the permutation test attains. As g is itself uncertain, these are rough "
        "figures for planning; that a difference was not found is no evidence that there is none.",
    ),
    (
        Strong("Paired"),
        " tests, if asked for, are of the differences between runs of the same seed: the bootstrap "
        "and g are of these, and p is that of flipping their signs. It helps if runs of one seed "
        "have something in common, as where it decides a level or a data set. Training is chaotic, "
        "so that in general they do not; pairing is then right, too, but costs half of the degrees "
        "of freedom.",
    ),
]

AGGREGATES: list[Inline] = [
    "Aggregates are over the environments that all algorithms share. While these are fewer than "
    "two, the algorithm with the fewest environments is left out.",
    (
        Strong("Normalised"),
        " scores are 0 for a random policy and 1 for a reference, which a table names for each "
        "environment.",
    ),
    (
        Strong("Interquartile mean"),
        ": the mean of the middle half of all runs, which a single lucky or failed run hardly "
        "moves. Four runs that score 0, 0.8, 0.9 and 5 have the mean 1.68 and the interquartile "
        "mean 0.85, that of 0.8 and 0.9. All runs on an environment where an algorithm fails may "
        "be among those left out: look at the other columns and at each environment, too.",
    ),
    (
        Strong("Median"),
        " and ",
        Strong("mean"),
        ": of the environments' means over seeds. ",
        Strong("Optimality gap"),
        ": how far runs stay below the reference, on average; less is better.",
    ),
    f"The intervals are rliable's stratified bootstrap over seeds ({AGGREGATE_REPETITIONS:,} "
    "resamples, fixed seed), too narrow with few seeds like those of the scores.",
    (
        "A ",
        Strong("performance profile"),
        " shows for each score τ (tau) which share of its runs an algorithm has above it: at τ = "
        "0.5 the runs that end more than half of the way from the random policy to the reference. "
        "A curve above another one is better; where they cross, neither is better throughout.",
    ),
]

COSTS: list[Inline] = [
    (
        Strong("Wall time"),
        ": training and evaluations of a run, mean over runs. ",
        Strong("Training speed"),
        ": environment steps per second of training alone, mean over runs. ",
        Strong("Peak memory"),
        ": the most that a run's process held, including Python and its libraries, median over "
        "runs. Times depend on what else the machine was doing.",
    ),
    (
        Strong("Steps to a threshold"),
        ": environment steps at the first evaluation whose mean return is at or above the "
        "threshold, median over seeds (lowest, highest). A seed that never gets there counts as "
        "infinitely many steps: ",
        Code(">"),
        " or ",
        Code("not within"),
        " the steps of the run. The first evaluation to reach a threshold is a noisy event: the "
        "next one may lie below it again.",
    ),
]


LITERATURE: list[Inline] = [
    (
        Strong("Difference"),
        ": of our mean from theirs, as a share of theirs. It says nothing about chance; for that "
        "see ± and the number of runs. ",
        Strong("±"),
        ": the standard deviation over runs, of one published run that over episodes.",
    ),
    (
        Strong("Our highest"),
        " is that of the algorithms with two or more seeds, if there are any. It stands beside the "
        "highest published mean at our budget, or at any budget if there is none at ours; of "
        "several with the same mean, beside the one with the nearest budget.",
    ),
    (
        Strong("Bold"),
        ", in the tables of environments: by each metric the highest published mean, and our "
        "highest of two or more runs. It does not say that one method is better than the other: "
        "see in what they differ.",
    ),
]

DIAGNOSTICS: list[Inline] = [
    (
        Strong("KL per update"),
        ": the divergence between the policies before and after an update, in nats, averaged over "
        "the states of the rollout. NPG's is from the old to the new policy, sb3-contrib's TRPO's "
        "from the new to the old. Medians and the 5% and 95% quantiles are over the logged updates "
        "of all seeds that moved the policy; skipped updates are counted separately.",
    ),
    (
        Strong("delta"),
        " is a range if it follows a schedule: the highest and lowest in the logged updates. ",
        Strong("≈"),
        ": PPO has no trust region and no delta. Shown is ",
        Code("approx_kl"),
        ", its estimate from the actions taken, averaged over the minibatches of the last epoch. ",
        Strong("Clipped"),
        ": the share of probability ratios outside the clip range.",
    ),
    "The first table has one row per algorithm and quantity: the median in the tables below, over "
    "environments and configurations, with the lowest and highest in brackets.",
    (
        Strong("Predicted KL"),
        ": the quadratic model, half the step times the Fisher information times the step. A "
        "KL-normalised step without line search makes it equal to delta.",
    ),
    (
        Strong("Skipped"),
        ": NPG counts every update, of the policy or the critic, that had no sound step; ACER "
        "every one whose gradient was not finite; for TRPO it is each logged update whose line "
        "search failed. ",
        Strong("CG residual"),
        ": ‖(F + damping I) x − g‖ / ‖g‖ when conjugate gradient stopped. It says how exact the "
        "direction is, not how long the step is.",
    ),
    (
        Strong("rho"),
        ": the probability of an action under the policy divided by that under the policy that "
        "took it, over all samples of a rollout's updates, fresh and replayed; logged after every "
        "100th rollout. ",
        Strong("Truncated"),
        ": the share of samples with rho above c.",
    ),
    (
        Strong("Projected"),
        ": the share of samples whose gradient the trust region changed. ",
        Strong("Change by projection"),
        ": by how much, relative to the mean length of the gradients. ACER's delta bounds the "
        "linear change of the KL divergence from the average policy along each sample's gradient, "
        "not the divergence itself.",
    ),
]

STUDIES: list[Inline] = [
    "Scores are interquartile means over seeds and environments, normalised where the study's "
    "objective is. A gain is the difference between runs with the same seeds. The intervals are "
    f"percentile bootstrap over seeds ({STUDY_REPETITIONS:,} resamples, fixed seed), too narrow "
    "with few seeds like those of the scores.",
    (
        "On the search's own seeds the best values are the highest of many noisy ones and look "
        "better than they are: the fresh seeds decide. ",
        Strong("Bold"),
        " gains and losses are beyond chance: their interval excludes 0, with at least "
        f"{FEWEST_SEEDS} seeds. With two seeds, one of two equal settings is ahead on both in half "
        "of all cases.",
    ),
    (
        Strong("Good"),
        " are the values around the best one whose scores are within 10% of its score; between the "
        "values that were tried, scores are taken to lie on straight lines. A decade is a factor "
        "of 10. ",
        Strong("At least"),
        ": the good values reach an end of the range that was searched. ",
        Strong("Lost"),
        " is the score at the best value less that at another value.",
    ),
    (
        Strong("Importance"),
        ": the share of the differences between trials that a parameter explains (PED-ANOVA over "
        "the completed trials). It has no interval; with few trials it is only a hint.",
    ),
]


def build(context: Context) -> Section | None:
    """What final return, intervals, ahead, bold, aggregates and the rest mean."""
    parts = {
        "Scores": SCORES,
        "Verdicts": COMPARISONS,
        "Tests of pairs": TESTS,
        "Several environments": AGGREGATES,
        "Time and steps": COSTS,
        "Against the literature": LITERATURE,
        "Trust-region diagnostics": DIAGNOSTICS,
        "Studies": STUDIES,
    }
    blocks: list[Block] = []
    data = context.runs
    if data is not None and not (data.metric == EVALUATIONS and data.are_all_of_suite):
        parts = {"The metric": about(data.metric), **parts}
    for title, items in parts.items():
        blocks += [Paragraph(Strong(title)), Bullets(items)]
    return Section("How to read this", blocks)


def about(metric: Metric) -> list[Inline]:
    """What a metric is, and its direction."""
    said = METRICS.get(metric.name, OTHER_METRIC)
    return [*said, LOWER] if metric.lower_is_better else said
