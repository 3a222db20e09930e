"""The claims of Forget Vectors at Play, each a function of the session's records.

1 to 4 and 16 are the comparison, 5, 12 and 13 the hyper-parameters, 6 to 8 the arithmetic, 9 and 10 shifted and unseen data, 11 and 15
the costs, 14 the saliency. Margins were fixed before the first full run: 5 points for "close", 10 points for "as much", 90 % for
"forgotten", 3 points between two Avg.Gaps, 2 points for "does not fall" and for "matters little". One rule was changed after a first run:
claim 10 compared points, in which an original that reads 84 % of unseen images can never lose as much as of training images.
"""

from __future__ import annotations

import pandas as pd

from ...claims import FAILS, HOLDS, NO_RUN, OPEN, Claim, Interval, Verdict, always, interval, paired, untested, weakest, within
from ...plots import label
from ...tables import with_distance

CLOSE, AS_MUCH, FORGOTTEN, GAPS, LITTLE = 0.05, 0.10, 0.90, 0.03, 0.02
ATTACK = "mia_confidence"
FOUR = ["acc_forget", "acc_retain", "acc_test", ATTACK]
TUNED = ("finetune", "l1_sparse", "random_labels", "salun", "neggrad_plus", "scrub")        # baselines that train on D_r
BASELINES = (*TUNED, "gradient_ascent", "ssd", "class_f", "influence")
VECTORS = ("forget_vector", "forget_vector_composed")
USED, REMOVED, NOISE = "the vector on every image", "vector removed", "noise of the same norm"
CLEAN, NO_RETAIN = "attack fitted to clean images", "learned without retain loss"


def single(session) -> pd.DataFrame:
    """Runs that forget one class, with the distance to retrained."""
    frame = with_distance(session.frame(), ATTACK)
    return frame[frame.scenario.str.fullmatch(r"class:\d+")]


def compared(session) -> dict[str, pd.DataFrame]:
    """The runs that all methods share, with the distance to retrained: {"one class": ..., "random samples": ...}."""
    frame, one = with_distance(session.frame(), ATTACK), single(session)
    everywhere = one[one.method.isin(BASELINES)].scenario.unique()
    parts = {"one class": one[one.scenario.isin(everywhere)], "random samples": frame[frame.scenario.str.startswith("random")]}
    return {name: part for name, part in parts.items() if len(part)}


def with_gap(session, rows: pd.DataFrame) -> pd.DataFrame:
    """Add Avg.Gap to rows that carry the four numbers of a run's scenario and seed."""
    runs = session.frame()
    base = runs[runs.method == "retrain"].drop_duplicates(["scenario", "seed"]).set_index(["scenario", "seed"])[FOUR]
    wanted = base.loc[list(zip(rows.scenario, rows.seed, strict=True))].to_numpy()
    return rows.assign(avg_gap=(rows[FOUR] - wanted).abs().mean(axis=1, skipna=False))


def of_row(session, study: str, row: str) -> pd.DataFrame:
    rows = session.rows(study)
    return rows[rows.row == row]


def controls_of(session) -> pd.DataFrame:
    """The control rows; the vector as the released program uses it has a name that needs no paper."""
    rows = of_row(session, "controls", "control")
    return rows.assign(control=rows.control.replace("as in the paper", USED))


def by_seed(frame: pd.DataFrame, value: pd.Series) -> Interval:
    """Interval over seeds of a value a row: rows of one seed share their original, so they are averaged first."""
    return interval(value.groupby(frame.seed).mean())


def extreme(parts: list[tuple[str, Interval]], low: float, high: float, what: str, largest: bool) -> Verdict:
    """All of many intervals within [low, high]; of those that decide, the evidence names the one that is closest to failing, or farthest
    beyond."""
    if not parts:
        return untested(NO_RUN)
    verdicts = [within(value, low, high, "") for _, value in parts]
    passed, status = sum(v.status == HOLDS for v in verdicts), weakest(*verdicts).status
    deciding = [part for part, v in zip(parts, verdicts, strict=True) if v.status == status]
    name, value = (max if largest else min)(deciding, key=lambda part: part[1].mean)
    of = f" of {len(deciding)} that {'fail' if status == FAILS else 'are open'}" if status in (FAILS, OPEN) else ""
    return Verdict(status, f"{what}: {passed} of {len(parts)}, {'largest' if largest else 'smallest'}{of} {value.text()} "
                   f"points ({name}){'' if value.n > 1 else ' (n = 1: an interval needs at least two seeds)'}")


def exists(session) -> Verdict:
    one = single(session)
    vector = one[one.method == "forget_vector"]
    gap = paired(one, ATTACK, "forget_vector", "retrain")
    return weakest(always(1 - vector.acc_forget, lambda v: v >= FORGOTTEN, f"UA of at least {100 * FORGOTTEN:g} %, class by class"),
                   within(gap, -CLOSE, CLOSE, f"MIA-Efficacy minus retrained: {gap.text()} points (margin {100 * CLOSE:g})"))


def against(part: pd.DataFrame, metric: str, rank) -> Interval:
    """Forget vector minus ``rank`` of the baselines (their median, least, ...), run by run."""
    wide = part.pivot_table(index=["scenario", "seed"], columns="method", values=metric)
    there = [m for m in BASELINES if m in wide]
    if not there or "forget_vector" not in wide:
        return interval([])
    return interval((wide.forget_vector - rank(wide[there])).groupby("seed").mean())


def _ranked(session, metric: str, rank, what: str, digits: int = 1) -> Verdict:
    parts = []
    for name, part in compared(session).items():
        gap = against(part, metric, rank)
        parts.append(within(gap, -1, 1e-9, f"{name}, {what}: {gap.text(digits)} points"))
    return weakest(*parts)


def competitive(session) -> Verdict:
    return _ranked(session, "avg_gap", lambda w: w.median(axis=1), "Avg.Gap minus the baselines' median")


def outperforms(session) -> Verdict:
    return _ranked(session, "avg_gap", lambda w: w.min(axis=1), "Avg.Gap minus the smallest of any baseline", digits=2)


def attack_gaps(part: pd.DataFrame) -> pd.DataFrame:
    """Add ``mia_gap``, the distance of MIA-Efficacy to that of the retrained model."""
    base = part[part.method == "retrain"].set_index(["scenario", "seed"])[ATTACK]
    return part.assign(mia_gap=[abs(v - base[s, n]) for v, s, n in zip(part[ATTACK], part.scenario, part.seed, strict=True)])


def attacks(session) -> Verdict:
    """Not larger than the second smallest gap of a baseline."""
    parts = []
    for name, part in compared(session).items():
        gap = against(attack_gaps(part), "mia_gap", lambda w: w.apply(lambda row: row.nsmallest(2).iloc[-1], axis=1))
        parts.append(within(gap, -1, 1e-9, f"{name}, gap of MIA-Efficacy minus the second smallest of a baseline: {gap.text()} points"))
    return weakest(*parts)


def loses(session) -> Verdict:
    parts = []
    for metric, text in (("acc_retain", "RA"), ("acc_test", "TA")):
        gaps = [(f"{label(m)}, {name}", paired(part, metric, "forget_vector", m)) for name, part in compared(session).items() for m in TUNED
                if (part.method == m).any()]
        parts.append(extreme(gaps, -1, 0, f"{text} below that of a baseline trained on D_r", largest=True))
    return weakest(*parts)


def sweep(session, name: str, kind: str = "") -> pd.DataFrame:
    """Rows of a sweep with Avg.Gap; ``kind``: of these scenarios alone ("class", "random")."""
    rows = with_gap(session, of_row(session, name, "sweep"))
    return rows[rows.scenario.str.startswith(kind)]


def together(session) -> Verdict:
    if not session.has("beta"):
        return untested(NO_RUN)
    rows = sweep(session, "beta", "random")
    if rows.empty:
        return untested(NO_RUN)
    r = interval([(1 - part.acc_forget).corr(1 - part.acc_retain) for _, part in rows.groupby("seed")])
    return within(r, 0, 2, f"correlation of UA with 100 - RA over beta, random samples: {r.text(2, 1)} ({rows.value.nunique()} stops: any "
                  "two curves that rise together correlate)")


def composes(session) -> Verdict:
    part = compared(session).get("random samples", pd.DataFrame(columns=["scenario", "seed", "method", "avg_gap"]))
    gap = paired(part, "avg_gap", "forget_vector_composed", "forget_vector")
    return within(gap, -GAPS, GAPS, f"Avg.Gap, composed minus direct vector, random samples: {gap.text()} points")


def weights(session) -> pd.DataFrame:
    """Learned weights of the composed vectors, a row a class."""
    rows = session.rows("unlearn")
    rows = rows[rows.row == "weight"]
    return rows if len(rows) else pd.DataFrame(columns=["scenario", "seed", "class", "w"])


def negative(session) -> Verdict:
    rows = weights(session)
    if rows.empty:
        return untested(NO_RUN)
    lowest = rows[rows.scenario.str.startswith("random")].groupby(["scenario", "seed"]).w.min()
    return always(lowest, lambda w: w < 0, f"a negative weight among the {rows['class'].nunique()} learned ones (of "
                  "that many around 0, some are below it by chance), random samples")


def mixes(session) -> pd.DataFrame:
    """Avg.Gap of the mixes that nobody learned, and of the learned one ("learned"), run by run."""
    rows, frame = session.rows("unlearn"), with_distance(session.frame(), ATTACK)
    rows = rows[rows.row == "mix"]
    learned = frame[frame.method == "forget_vector_composed"].assign(mix="learned w")
    direct = frame[(frame.method == "forget_vector") & frame.scenario.isin(learned.scenario)].assign(mix="direct vector")
    columns = ["scenario", "seed", "mix", "avg_gap"]
    return pd.concat([direct[columns], learned[columns], with_gap(session, rows)[columns] if len(rows) else rows.reindex(columns=columns)])


def searched(session) -> Verdict:
    if weights(session).empty:
        return untested(NO_RUN)
    every = mixes(session).rename(columns={"mix": "method"})
    every = every[every.scenario.str.startswith("random")]
    parts = [(name, paired(every, "avg_gap", name, "learned w")) for name in ("mean (w = 1/K)", "sum (w = 1)")]
    return weakest(*(within(gap, 0, 1, f"Avg.Gap, {name} minus learned, random samples: {gap.text()} points") for name, gap in parts))


def shifted(session) -> pd.DataFrame:
    """Shifted minus unshifted, run by run: columns UA, RA, TA, MIA, one row a shift."""
    rows = of_row(session, "shift", "shift")
    base = rows[rows["shift"] == "none"].set_index(["method", "scenario", "seed"])[FOUR]
    rows = rows[rows["shift"] != "none"]
    start = base.loc[list(zip(rows.method, rows.scenario, rows.seed, strict=True))]
    change = (rows[FOUR] - start.to_numpy()).rename(columns={"acc_forget": "UA", "acc_retain": "RA", "acc_test": "TA", ATTACK: "MIA"})
    return rows[["method", "scenario", "seed", "shift", "strength"]].assign(**change.assign(UA=-change.UA))


def resilient(session) -> Verdict:
    """Retrained and approximate methods: UA and MIA fall by at most 2 points, RA and TA fall."""
    if not session.has("shift"):
        return untested(NO_RUN)
    change = shifted(session)
    change, parts = change[~change.method.isin(["original", *VECTORS])], []
    for metric, low, high, text in (("UA", -LITTLE, 1, "UA not below unshifted by more than 2 points"),
                                    ("MIA", -LITTLE, 1, "MIA-Efficacy likewise"), ("RA", -1, 0, "RA falls"), ("TA", -1, 0, "TA falls")):
        moved = [(" ".join([label(key[0]), *key[1:]]), interval(part.groupby("seed")[metric].mean()))
                 for key, part in change.groupby(["method", "scenario", "shift", "strength"])]
        parts.append(extreme(moved, low, high, text, largest=high == 0))
    return weakest(*parts)


def transfers(session) -> Verdict:
    """As a share of what the original recognises: it knows fewer unseen images, so fewer points can be taken from them."""
    one, taken = single(session), {}
    if one.empty:
        return untested(NO_RUN)
    for metric in ("acc_forget", "acc_test_forget"):
        table = one.pivot_table(index=["scenario", "seed"], columns="method", values=metric)
        taken[metric] = 1 - table.forget_vector / table.original
    gap = interval((taken["acc_test_forget"] - taken["acc_forget"]).groupby("seed").mean())
    shares = " and ".join(interval(taken[metric].groupby("seed").mean()).text() for metric in ("acc_test_forget", "acc_forget"))
    parts = [within(gap, -AS_MUCH, AS_MUCH, f"of what the original recognises of the class, the vector takes {shares} % (unseen, training "
                    f"images): {gap.text()} points")]
    if session.has("shift"):
        change = shifted(session)
        change = change[(change.method == "forget_vector") & change.scenario.str.startswith("class") & (change["shift"] != "PGD")]
        moved = [(" ".join(key), interval(part.groupby("seed").UA.mean())) for key, part in change.groupby(["shift", "strength"])]
        parts.append(extreme(moved, -AS_MUCH, 1, "UA on noisy or deformed images not lower by more than 10 points", largest=False))
    return weakest(*parts)


def parameters(session) -> Verdict:
    frame = session.frame()
    whole = int(frame[frame.method == "retrain"].trainables.iloc[0])
    direct, mixed = (frame[frame.method == m].trainables for m in VECTORS)
    classes = weights(session).groupby(["scenario", "seed"])["class"].nunique() if len(mixed) else []
    pixels = int(direct.iloc[0])
    return weakest(always(direct, lambda n: n == pixels and n < whole, f"{pixels:,} trainables (the pixels) against {whole:,} weights"),
                   *[always(mixed, lambda n: n in set(classes), "for a composed vector one a class")] * bool(len(mixed)))


def insensitive(session) -> Verdict:
    if not session.has("tau"):
        return untested(NO_RUN)
    rows, parts = sweep(session, "tau"), []
    for scenario, part in rows.groupby("scenario"):
        spread = part.groupby("seed").avg_gap.agg(lambda v: v.max() - v.min())
        i = interval(spread)
        parts.append(within(i, 0, LITTLE, f"{scenario}, largest minus smallest Avg.Gap over tau: {i.text()} points"))
    return weakest(*parts)


def traded(session) -> Verdict:
    """Largest against smallest beta."""
    if not session.has("beta"):
        return untested(NO_RUN)
    rows, parts = sweep(session, "beta"), []
    for scenario, part in rows.groupby("scenario"):
        wide = part.pivot_table(index="seed", columns="value", values=["acc_forget", "acc_retain", "acc_test"])
        for metric, text, low, high, sign in (("acc_forget", "UA", 0, 1, -1), ("acc_retain", "RA", -1, 0, 1), ("acc_test", "TA", -1, 0, 1)):
            values = wide[metric]
            i = interval(sign * (values[values.columns.max()] - values[values.columns.min()]))
            parts.append(within(i, low, high, f"{scenario}, {text} at the largest minus the smallest beta: {i.text()} points"))
    return weakest(*parts)


def maps_change(session) -> Verdict:
    """Grad-CAM maps with the vector against the original's; a flat map has no correlation."""
    if not session.has("saliency"):
        return untested(NO_RUN)
    rows = of_row(session, "saliency", "correlation")
    rows = rows[rows.model == "forget_vector"]
    wide = rows.pivot_table(index="seed", columns="part", values="correlation")
    gap = interval(wide.forget - wide.retain)
    return within(gap, -2, 0, f"correlation of the maps with and without the vector: forget {interval(wide.forget).text(2, 1)}, retain "
                  f"{interval(wide.retain).text(2, 1)}, difference {gap.text(2, 1)} (images with a flat map are left out)")


def not_cheaper(session) -> Verdict:
    parts = []
    for name, part in compared(session).items():
        gap = paired(part, "epochs", "forget_vector", "finetune")
        parts.append(within(gap, 0, 1e9, f"{name}, training-epoch equivalents (set by the preset), vector minus fine-tuning: "
                                         f"{gap.text(1, 1)}"))
    return weakest(*parts)


CLAIMS = (
    Claim(1, "With all weights frozen, one vector a class forgets it (UA of at least 90 %), with an MIA-Efficacy close to retraining's.",
          "abstract", exists),
    Claim(2, "A forget vector is competitive: its Avg.Gap is at most the median of the methods that change weights.", "abstract",
          competitive),
    Claim(3, "Its MIA-Efficacy is among the two nearest to retraining's.", "reviews of the paper", attacks),
    Claim(4, "It pays in utility: RA and TA are below those of every fine-tuning baseline.", "reviews of the paper", loses),
    Claim(5, "On random samples, one vector raises UA only where RA falls.", "our own question; claim 4 is judged apart",
          together),
    Claim(6, "A composed vector does as well as a learned one on random samples (to 3 points of Avg.Gap).", "abstract", composes),
    Claim(7, "The weights of a composed vector include negative ones.", "reviews of the paper", negative),
    Claim(8, "The weights must be searched for: equal ones do worse.", "asked by a reviewer", searched),
    Claim(9, "Unlearning survives shifted data: UA and MIA-Efficacy of retrained and fine-tuned models do not fall, RA and TA do.",
          "reviews of the paper", resilient),
    Claim(10, "A class's vector works on unseen images of the class, and on noisy and deformed ones.", "summary of the paper", transfers),
    Claim(11, "As many trainables as an image has pixels, or as there are classes, instead of all weights.", "abstract", parameters),
    Claim(12, "The margin floor tau matters little.", "review of an earlier version", insensitive),
    Claim(13, "beta trades forgetting for utility: UA rises, RA and TA fall.", "review of an earlier version", traded),
    Claim(14, "With the vector, maps of where the network looks change more on forget than on retain images.",
          "reviews of the paper, in part (where the object is, nothing here measures)", maps_change),
    Claim(15, "It is not cheaper than fine-tuning.", "reviews of the paper", not_cheaper),
    Claim(16, "It outperforms every approximate method.", "review of an earlier version", outperforms),
)
