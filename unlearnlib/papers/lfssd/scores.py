"""Expectations of the LFSSD notebook, scored: a computed sentence after a table, where the text before it said what to expect."""

from __future__ import annotations

import pandas as pd

from ... import data, models
from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import PUBLISHED, Markdown, Table
from .. import NotAvailable, prose
from ..prose import of_method
from . import text
from .claims import FORGOTTEN, with_paper_metrics
from .curves import alphas_in_words, curve, swept

THIRD_PARTY = "UnAct"       # whose values stand in published.csv


def decided(value: Interval, low: float, high: float) -> str:
    """Does the quantity lie in [low, high]? Only a whole interval says "yes" or "no"."""
    if value.n < 2:
        return "not decided at one seed"
    if value.low >= low and value.high <= high:
        return "yes"
    return "no" if value.high < low or value.low > high else "interval too wide: not decided"


def task(session) -> Markdown:
    """What the detailed scenario forgets, and with which network, in numbers."""
    return prose.reading(session, _task)


def _task(session) -> str:
    focus = session.settings["focus"]
    d = data.load(session.settings["scenarios"][focus])
    split = data.split(d, focus, 0)
    weights = models.count_parameters(models.build(session.settings["model"], d, 0))
    return (f"{focus} forgets {len(split.forget):,} of {len(d.train_labels):,} training images; {int(split.test_forget.sum()):,} of "
            f"{len(d.test_labels):,} test images are of that kind, so one of them is {100 / max(1, int(split.test_forget.sum())):.1f} "
            f"points of acc D_f. The network {session.settings['model']} has {weights:,} weights.")


def stops(session, alphas: list[float]) -> Markdown:
    """Is the first stop the original model, and does the last one cost accuracy on the kept classes?"""
    rows, f = curve(session, session.settings["focus"]), text.focus(session)
    before = f[f.method == "original"].set_index("seed")[["D_r", "D_f"]]

    def at(wanted: float) -> tuple[float, pd.DataFrame]:
        nearest = rows.alpha.iloc[(rows.alpha - wanted).abs().argmin()]
        return nearest, rows[rows.alpha == nearest].set_index("seed")[["D_r", "D_f"]] - before
    (first, off), (last, far) = at(alphas[0]), at(alphas[-1])
    same = int((off.abs() < 1e-5).all(axis=1).sum())                           # records have six digits; one image is far more
    lost = interval(far.D_r)
    word = "yes" if same == len(off) else "no"
    return Markdown(f"*We measured:* alpha = {first:g} answers as the original does, to the last digit: **{word}** "
                    f"({same} of {len(off)} seeds). Alpha = {last:g} costs accuracy on the kept classes: **{_lower(lost)}** "
                    f"(acc D_r {lost.text()} points against the original).")


def _lower(value: Interval) -> str:
    return {"lower": "yes", "higher": "no"}.get(comparison(value), "not decided")


def expected(session) -> Markdown:
    """The expectation before the paper's table: acc D_f of LFSSD near retrained for classes; damage at random samples."""
    f, parts, trouble = with_paper_metrics(session.frame()), [], []
    for scenario in session.settings["scenarios"]:
        part = f[f.scenario == scenario]
        gap = paired(part, "D_f", "lfssd", "retrain")
        parts.append(f"{scenario} **{decided(gap, -FORGOTTEN, FORGOTTEN)}** ({gap.text()})")
        if scenario.startswith("random"):
            lost = paired(part, "D_r", "lfssd", "original")
            trouble.append(f" Trouble at {scenario}, acc D_r below the original: **{_lower(lost)}** ({lost.text()} points).")
    return Markdown(f"*We measured:* acc D_f of LFSSD within {100 * FORGOTTEN:g} points of retrained: {'; '.join(parts)}."
                    + "".join(trouble))


def cost(session) -> Markdown:
    """Do the dampening methods cost one pass over D and one over D_f?"""
    f = text.focus(session)
    bound = session.frame("alpha").set_index("scenario").bound.loc[[session.settings["focus"]]].iloc[0]
    parts = []
    for name in ("lfssd", "ssd"):
        epochs = f[f.method == name].epochs
        near = (epochs - 1 - 1 / bound).abs().max() < 0.01
        parts.append(f"{label(name)} {interval(epochs).mean:.2f}: **{'yes' if near else 'no'}**")
    return Markdown(f"*We measured:* expected 1 + |D_f|/|D| = {1 + 1 / bound:.2f} equivalents; {', '.join(parts)}.")


def third_party(session) -> Markdown:
    """SSD and LFSSD at a third party's own alpha and lambda beside its value; and the alphas at which they come near it."""
    f, n, parts, gaps = text.focus(session), session.settings["seeds"], [], []
    ours = swept(session, session.settings["focus"]).groupby(["method", "lam", "alpha"]).D_f.mean()
    for known in _published(session, "unlearn").itertuples():
        if known.metric != "D_f" or pd.isna(known.alpha):
            continue
        left = ours[known.method, known.lam]
        near = (left - known.value / 100).abs() <= FORGOTTEN
        word = "as published" if near[known.alpha] else "not reproduced"
        parts.append(f"{label(known.method)} at {THIRD_PARTY}'s alpha {known.alpha:g} and lambda {known.lam:g} leaves acc D_f "
                     f"{100 * left[known.alpha]:.1f} % ({THIRD_PARTY}: {known.value:g}): **{word}{', at one seed' if n == 1 else ''}**; "
                     f"alphas within {100 * FORGOTTEN:g} points of it: {alphas_in_words(list(left.index[near]))}.")
    for name in [m for m in f.method.unique() if m in ("finetune", "bad_teacher", "ssd", "lfssd")]:
        gaps.append(f"{label(name)} {' / '.join(paired(f, m, name, 'retrain').text() for m in ('D_f', 'D_r', 'MIA'))}")
    return Markdown(f"*We measured* (n = {n}): {' '.join(parts)} In the table, minus retrained, in points of acc D_f / acc D_r / MIA: "
                    f"{'; '.join(gaps)}.")


def _published(session, study: str) -> pd.DataFrame:
    """The verified published values of a study in the detailed scenario, with their settings as numbers."""
    known, focus = pd.read_csv(PUBLISHED), session.settings["focus"]
    known = known[(known.paper == "lfssd") & (known.study == study)]
    return known[(known.scenario == focus) & (known.data == session.settings["scenarios"][focus])]


def _both(session) -> pd.DataFrame:
    """D_r and D_f by alpha, ours with the ending _ours: LFSSD at lambda 1 and equal batch size; only alphas that both have."""
    known = _published(session, "alpha").pivot(index="alpha", columns="metric", values="value") / 100
    ours = curve(session, session.settings["focus"]).groupby("alpha")[["D_r", "D_f"]].mean()
    return known.join(ours.add_suffix("_ours"), how="inner")


def sweep(session) -> Table:
    """LFSSD at equal alpha, lambda and batch size: a third party's curve beside ours."""
    return Table(pd.DataFrame([{"alpha": f"{r.Index:g}",
                                f"{THIRD_PARTY}, lambda 1: acc D_r / D_f (%)": f"{100 * r.D_r:g} / {100 * r.D_f:g}",
                                "ours, lambda 1: acc D_r / D_f (%)": f"{100 * r.D_r_ours:.1f} / {100 * r.D_f_ours:.1f}"}
                               for r in _both(session).itertuples()]))


def behind(session) -> Markdown:
    """Candidate reasons for what differs from the third party's curve, each with what the records say of it."""
    both, known = _both(session), _published(session, "unlearn")
    theirs = known[(known.method == "original") & (known.metric == "D_f")].value.iloc[0] / 100
    ours = text.focus(session).groupby("method").D_f.mean()["original"]
    more = both.index[both.D_f_ours / ours > both.D_f / theirs + FORGOTTEN]
    out = [f"*alpha*: at equal alpha more of the class is left in our network at {', '.join(f'{a:g}' for a in more) or 'none'}, as a share "
           f"of what it knew, so {'it is not alpha alone' if len(more) else 'alpha may be all'}"]
    try:
        rows = session.rows("sensitivity")
        rows = rows[(rows.method == "lfssd") & (rows.order == "shuffled") & (rows.batch_size == rows.hp_batch_size)]
        at = rows[rows.alpha == rows.alpha.max()][["alpha", "D_f", "D_r"]].mean()
        out.append(f"*image order*, theirs mixed, ours sorted by class: shuffled at alpha {at.alpha:g}, acc D_f is {100 * at.D_f:.1f} % "
                   f"(acc D_r {100 * at.D_r:.1f} %)")
    except NotAvailable:
        pass
    return Markdown(f"*We measured*, on what may be behind the difference: {'; '.join(out)}; *network, training*: not varied.")


def other_scale(session) -> Markdown:
    """Seeds of another preset, what they leave untested, and LFSSD's accuracy there."""
    why = [*(["one seed has no interval"] if session.settings["seeds"] == 1 else []),
           *([] if session.has("exact") else ["the exact properties were not run"]),
           f"LFSSD's acc D_f is {of_method(text.focus(session), 'lfssd', 'D_f')} %"]
    return Markdown(f"**Preset {session.preset}** (n = {session.settings['seeds']}): {'; '.join(why)}.")
