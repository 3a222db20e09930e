"""Expectations of the LFSSD notebook, scored: a computed sentence after a table, where the text before it said what to expect."""

from __future__ import annotations

import pandas as pd

from ... import data, models
from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import PUBLISHED, Markdown
from .. import NotAvailable, prose
from ..prose import of_method
from . import text
from .claims import FORGOTTEN, with_paper_metrics
from .curves import curve

THIRD_PARTY = {"name": "UnAct", "alpha": 6, "lam": 0.1}       # of its row for LFSSD on the airplanes of CIFAR-10


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
    """SSD and LFSSD beside the published values of a third party, and what may be behind a difference."""
    f, known = text.focus(session), pd.read_csv(PUBLISHED, dtype=str)
    n, parts, gaps = session.settings["seeds"], [], []
    known = known[(known.paper == "lfssd") & (known.scenario == session.settings["focus"]) & (known.metric == "D_f")]
    known = known.set_index("method").value
    for name in [m for m in ("ssd", "lfssd") if m in known]:
        left, alpha = interval(f[f.method == name].D_f), f[f.method == name].hp_alpha.iloc[0]
        near = abs(left.mean - float(known[name]) / 100) <= FORGOTTEN
        parts.append(f"{label(name)} at alpha {alpha:g} leaves acc D_f {left.text()} % ({THIRD_PARTY['name']}: {known[name]}): "
                     f"**{'as published' if near else 'not reproduced'}{' at one seed' if n == 1 else ''}**.")
        if name == "lfssd" and not near:
            parts += _why(session, alpha, float(known[name]) / 100)
    for name in [m for m in f.method.unique() if m in ("finetune", "bad_teacher", "ssd", "lfssd")]:
        gaps.append(f"{label(name)} {' / '.join(paired(f, m, name, 'retrain').text() for m in ('D_f', 'D_r', 'MIA'))}")
    return Markdown(f"*We measured* (n = {n}): {' '.join(parts)} Minus retrained, in points of acc D_f / acc D_r / MIA: {'; '.join(gaps)}.")


def _why(session, alpha: float, wanted: float) -> list[str]:
    """Candidate reasons, each with what the records say of it."""
    rows = session.rows("alpha")
    rows = rows[(rows.scenario == session.settings["focus"]) & (rows.method == "lfssd")]
    mean = rows.groupby(["lam", "alpha"])[["D_f", "D_r"]].mean()
    out = []
    near = [a for lam, a in mean.index[(mean.D_f - wanted).abs() <= FORGOTTEN] if lam == 1]
    tuned = "tuned" if session.settings["grids"] else "not tuned here"
    if near:
        out.append(f"*alpha*, {tuned}: at {max(near):g} acc D_f is {_both(mean.loc[(1, max(near))])}")
    try:
        other = session.rows("sensitivity")
        other = other[(other.method == "lfssd") & (other.alpha == alpha) & (other.order == "shuffled")
                      & (other.batch_size == other.hp_batch_size)]
        if len(other):
            out.append(f"*image order*, theirs mixed, ours sorted by class: shuffled it is {_both(other[['D_f', 'D_r']].mean())}")
    except NotAvailable:
        pass
    theirs = (THIRD_PARTY["lam"], THIRD_PARTY["alpha"])
    if theirs in mean.index:
        out.append(f"*network, training and order together*: at their alpha {theirs[1]:g} and lambda {theirs[0]:g} it is "
                   f"{_both(mean.loc[theirs])}")
    return [f"What may be behind it: {'; '.join(out)}."] if out else []


def _both(row) -> str:
    return f"{100 * row.D_f:.1f} % (acc D_r {100 * row.D_r:.1f} %)"


def other_scale(session) -> Markdown:
    """The verdicts at another preset in a sentence: the claims by verdict."""
    table = session.verdicts()
    groups = [f"{status}: {', '.join(map(str, part.claim))}" for status, part in table.groupby("verdict", sort=False)]
    if len(groups) == 1:
        groups = [f"all {len(table)} claims {table.verdict[0]}"]
    why = [*(["one seed has no interval"] if session.settings["seeds"] == 1 else []),
           *([] if session.has("exact") else ["the exact properties were not run"])]
    return Markdown(f"**Preset {session.preset}** (n = {session.settings['seeds']}): {'; '.join(groups)}{' (' * bool(why)}{', '.join(why)}"
                    f"{')' * bool(why)}. LFSSD there: acc D_f {of_method(text.focus(session), 'lfssd', 'D_f')} %.")
