"""Tables of the ∇τ notebook, and a sentence for each, whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import pandas as pd

from ... import reference, tables
from ...claims import FAILS, HOLDS, OPEN, Interval, comparison, interval, paired, within
from ...plots import label
from ...tables import MISSING, Markdown, Table, by_method, published, with_distance
from ..figures import focus
from ..prose import of_method
from ..studies import role_shown
from . import ATTACK
from .claims import ATTACKED, fraction, idle, largest, of_domain, percent, random_runs, runs_of, shown
from .predictions import closed

COLUMNS = {"MIA_L (%)": ("mia_l", 1, 100), "MIA_E (%)": ("mia_e", 1, 100), "retain acc (%)": ("acc_retain", 1, 100),
           "test acc (%)": ("acc_test", 1, 100), "forget acc (%)": ("acc_forget", 1, 100)}
CLASS_COLUMNS = {"MIA_L, all test images (%)": ("mia_l", 1, 100), "MIA_L, the class's own (%)": ("mia_l_class", 1, 100),
                 "forget acc (%)": ("acc_forget", 1, 100), "test acc, the class (%)": ("acc_test_forget", 1, 100),
                 "test acc, others (%)": ("acc_test_retain", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "JS forget": ("js_forget", 2, 1), "JS test": ("js_test", 2, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 2, 1), "seconds": ("seconds", 2, 1), "MIA_L (%)": ("mia_l", 1, 100),
                "test acc (%)": ("acc_test", 1, 100)}
NAMES = {"goemotions": "GoEmotions"}


def _in_words(table: Table) -> Table:
    """The scenarios of a table in words."""
    return Table(table.frame.assign(scenario=table.frame.scenario.map(shown)))


def paper_table(session, text: bool = False) -> Table | Markdown:
    """Fraction x method in the layout of the official code, beside the published values (none could be verified)."""
    frame = runs_of(session, text=text)
    if frame.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no such data.")
    return _in_words(published(frame, "nabla_tau", by_method(frame, COLUMNS), ["MIA_L", "MIA_E"]))


def class_table(session) -> Table | Markdown:
    frame = runs_of(session, "class")
    if frame.empty:
        return Markdown(f"*Not available:* preset {session.preset} forgets no class.")
    return _in_words(by_method(frame, CLASS_COLUMNS))


def fooled(session) -> Markdown:
    """In which numbers of the class table controls do as well as ∇τ."""
    names = {metric: name.removesuffix(" (%)") for name, (metric, _, _) in CLASS_COLUMNS.items()}
    return tables.fooled(runs_of(session, "class"), names, "nabla_tau")


def audit_table(session) -> Table:
    """The common audit of the detailed scenario."""
    return _in_words(by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS))


def cost_table(session) -> Table:
    """Cost of the method alone; seconds are those of the machine that made the records."""
    return _in_words(by_method(largest(runs_of(session)), COST_COLUMNS))


def cost_reading(session, band: list[float]) -> Markdown:
    """What ∇τ costs as a share of retraining, against the band of the prediction box, in percent."""
    wide = largest(runs_of(session)).pivot_table(index="seed", columns="method", values="epochs")
    share = interval(100 * wide.nabla_tau / wide.retrain)
    inside = "inside" if band[0] <= share.mean <= band[1] else "outside"
    frame, each = runs_of(session), []
    for scenario in sorted(frame.scenario.unique(), key=fraction):
        cell = frame[frame.scenario == scenario].pivot_table(index="seed", columns="method", values="epochs")
        mine, fine = (interval(cell[m] / cell.retrain) for m in ("nabla_tau", "finetune"))
        each.append(f"{percent(scenario)} {mine.text()} % (fine-tuned {fine.text()} %: ∇τ costs **{_dearer(mine, fine)}**)")
    return Markdown(f"*We measured:* at {percent(largest(frame).scenario.iloc[0])}, ∇τ costs {share.text(1, 1)} % of our retraining: "
                    f"**{inside}** our band, {band[0]:g} to {band[1]:g} %. Fraction by fraction: {', '.join(each)}.")


def _dearer(mine: Interval, other: Interval) -> str:
    """Costs are counted, not sampled: the means decide."""
    return "the same" if abs(mine.mean - other.mean) < 5e-4 else "more" if mine.mean > other.mean else "less"


def _texts(session) -> pd.DataFrame:
    """The five texts of the first seed, under three models, but for those that are mostly unknown words; empty where there are none."""
    rows = of_domain(session, session.rows("images"), text=True) if session.has("images") else pd.DataFrame()
    if rows.empty:
        return rows
    rows = rows[(rows.row == "strip") & (rows.seed == rows.seed.min())]
    return rows[[said.split().count("[rare]") * 2 <= len(said.split()) for said in rows.text]]


def examples(session, texts: int = 3) -> Table | Markdown:
    """A few texts as the model sees them, with their labels."""
    rows = _texts(session)
    if rows.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no single texts.")
    return Table(rows.drop_duplicates("text")[["name", "text"]].head(texts).rename(columns={"name": "label"}))


def five_texts(session) -> Table | Markdown:
    """Texts chosen by rule on the original model: probability of the label under three models."""
    rows, out = _texts(session), []
    if rows.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no single texts.")
    for role, part in rows.groupby("role", sort=False):
        p = part.set_index("model").p_label
        out.append({"role": role_shown(role), "label": part.name.iloc[0], "text": part.text.iloc[0]}
                   | {f"{label(m)} (%)": f"{100 * p[m]:.1f}" for m in ("original", "nabla_tau", "retrain")})
    return Table(pd.DataFrame(out))


def expected(session, text: bool = False) -> Markdown:
    """The expectations before the paper's table, fraction by fraction: the attack, what is undecided, which side was missed."""
    frame = runs_of(session, text=text)
    cells = {s: frame[frame.scenario == s] for s in sorted(frame.scenario.unique(), key=fraction)}
    parts, unsure = [], []
    for scenario, part in cells.items():
        gap, start, held = (paired(part, metric, m, "retrain") for metric, m in
                            (("mia_l", "nabla_tau"), ("mia_l", "original"), ("acc_forget", "nabla_tau")))
        parts.append(f"{percent(scenario)} **{_near(gap)}** (MIA_L {_beside(gap)}, the original's {_beside(start)}; forget accuracy "
                     f"{_beside(held)})")
        unsure += [percent(scenario)] if _near(gap) == "inconclusive" else []
    out = [f"*We measured:* MIA_L of ∇τ within 3 points of retrained? {'; '.join(parts) or MISSING}. All beside retrained."]
    if unsure:
        out.append(f"{', '.join(unsure)}: the interval crosses the margin, so this cannot be decided with these seeds.")
    sides = _sides(frame)
    if text and sides:
        out.append(_same_pattern(_sides(runs_of(session)), sides))
    elif sides:
        out += [_end(session, cells)] + [f"MIA_L of SSD against the original: {said}." for said in [_ssd(cells)] if said]
        out += [_standing_still(largest(frame))]
    return Markdown(" ".join(said for said in out if said))


def _beside(gap: Interval) -> str:
    """A difference in points with its direction in words: "3.3 ± 14.3 points above"."""
    side = "above" if gap.mean > 0 else "below"
    return f"{Interval(abs(gap.mean), gap.half, gap.n).text()} points {side}" if gap.n else MISSING


def _sides(frame: pd.DataFrame) -> dict[str, str]:
    """Fraction by fraction, by the forget accuracy beside the retrained model's: does ∇τ stop short, or forget too much?"""
    out = {}
    for scenario in sorted(frame.scenario.unique(), key=fraction):
        gap = paired(frame[frame.scenario == scenario], "acc_forget", "nabla_tau", "retrain")
        out[percent(scenario)] = comparison(gap, "stops short", "over-forgets") if gap.n > 1 else "one seed"
    return out


def _same_pattern(images: dict[str, str], texts: dict[str, str]) -> str:
    """Do images and text miss the retrained model's forget accuracy on the same side?"""
    both = [k for k in texts if k in images]
    told = [f"{name} {', '.join(f'{k} {side[k]}' for k in both)}" for name, side in (("images", images), ("text", texts))]
    return f"The same pattern as for images, by forget accuracy? **{'yes' if all(images[k] == texts[k] for k in both) else 'no'}**: " \
           f"{'; '.join(told)}." if both else ""


def _end(session, cells: dict[str, pd.DataFrame]) -> str:
    """Where the largest fraction misses the margin from above: how far the forget loss came."""
    scenario, part = list(cells.items())[-1]
    gap = paired(part, "mia_l", "nabla_tau", "retrain")
    if _near(gap) != "no" or gap.mean < 0 or not session.has("curve"):
        return ""
    rows = of_domain(session, session.rows("curve"))
    rows = rows[(rows.row == "epoch") & (rows.method == "nabla_tau") & (rows.scenario == scenario)]
    if rows.empty:
        return ""
    target, end = interval(rows.groupby("seed").tau.last()), interval(part[part.method == "nabla_tau"].loss_forget)
    side = "below" if end.mean < target.mean else "above"
    return (f"At {percent(scenario)} it was missed: the forget loss ended {side} its target ({end.text(2, 1)} against {target.text(2, 1)} "
            "nats).")


def _ssd(cells: dict[str, pd.DataFrame]) -> str:
    gaps = {percent(s): paired(part, "mia_l", "ssd", "original") for s, part in cells.items()}
    return ", ".join(f"{k} **{comparison(gap)}** ({gap.text()})" for k, gap in gaps.items() if gap.n)


def _standing_still(frame: pd.DataFrame) -> str:
    """Baselines that, as tuned here, are no opponents: they leave the model as it was."""
    still = idle(frame)
    if not still:
        return ""
    moved = [label(m) for m in frame.method.unique() if m not in ("original", "retrain", "nabla_tau", *still)]
    return (f"As tuned here, these leave the model practically as it was at {percent(frame.scenario.iloc[0])} (MIA_L and forget accuracy "
            f"within 2 points): {', '.join(map(label, still))}; baselines that move it: {', '.join(moved) or 'none'}.")


def _near(gap: Interval) -> str:
    """Within 3 points of the retrained model, by the rule of the verdicts."""
    return {HOLDS: "yes", FAILS: "no", OPEN: "inconclusive"}.get(within(gap, -ATTACKED, ATTACKED, "").status, "one seed")


def noise(session) -> Markdown:
    """What the attack says of two samples of one distribution, by the size of the smaller set: the floor under every MIA."""
    sizes = {}
    for s in session.specs:
        if s.study == "unlearn" and s.scenario.startswith("random"):
            split = reference.split(s.data, s.scenario, s.seed)
            sizes[f"{s.data} {percent(s.scenario)}"] = 2 * min(len(split.forget), len(split.data.test_labels))
    parts = [f"{name} ±{100 * 1.96 * 0.5 / n ** 0.5:.1f}" for name, n in sizes.items()]
    return Markdown(f"Binomial 95 % noise of one attack on n samples, in points (a property of the sizes): {', '.join(parts)}.")


def class_reading(session) -> Markdown:
    """Class removal in one sentence: where the loss went, what the class's own attack says."""
    f = runs_of(session, "class")
    if f.empty:
        return Markdown("")
    answers, own, loss = (paired(f, metric, "nabla_tau", "retrain") for metric in ("acc_test_forget", "mia_l_class", "loss_forget"))
    there = session.has("curve")
    rows = of_domain(session, session.rows("curve")) if there else pd.DataFrame({"row": []})
    first = rows[(rows.row == "epoch") & (rows.epoch == 0) & (rows.method == "nabla_tau")] if there else rows
    start = interval(first.tau).text(2, 1) if there else MISSING
    far = f[f.method == "nabla_tau"].loss_forget.min() > (first.tau.max() if there else float("inf"))
    reason = (" **The stated reason was wrong**: ∇τ did not stop at its target, its forget loss ended beyond it on every seed. We did not "
              "test why; the retain set has no sample of the class to hold the loss back.") if far else ""
    short = [f"in loss **{comparison(loss, 'no', 'yes')}**", f"in accuracy on the class **{comparison(answers, 'yes', 'no')}**"]
    return Markdown(f"*We measured:* the target at the start is {start} nats, the forget loss at the end "
                    f"{of_method(f, 'nabla_tau', 'loss_forget', 2, 1)} (retrained {of_method(f, 'retrain', 'loss_forget', 2, 1)}). "
                    f"Minus retrained: forget loss **{comparison(loss)}** ({loss.text(2, 1)} nats), test accuracy on the class "
                    f"**{comparison(answers)}** ({answers.text()} points), attack against the class's own test images "
                    f"**{comparison(own)}** ({own.text()}). Short of the retrained model, as expected? {', '.join(short)}.{reason}")


def audit_reading(session) -> Markdown:
    """Who is nearest to the retrained model, and what single samples say."""
    f = with_distance(focus(session, session.frame()), ATTACK)
    mean = f[~f.method.isin(["original", "retrain"])].groupby("method")[["avg_gap", "tow"]].mean()
    near, tied = mean.avg_gap.idxmin(), mean.tow.idxmax()
    js, gap = (paired(f, metric, "nabla_tau", "original") for metric in ("js_forget", "avg_gap"))
    beside = {k: "" if m == "nabla_tau" else f"; {label(m)} minus ∇τ {other.text(digits, scale)}: **{comparison(other)}**"
              for k, m, digits, scale in (("avg_gap", near, 1, 100), ("tow", tied, 2, 1)) for other in [paired(f, k, m, "nabla_tau")]}
    return Markdown(f"*We measured:* nearest to retrained by Avg.Gap: {label(near)} ({of_method(f, near, 'avg_gap')}; "
                    f"∇τ {of_method(f, 'nabla_tau', 'avg_gap')}{beside['avg_gap']}), by ToW: {label(tied)} "
                    f"({of_method(f, tied, 'tow', 2, 1)}; "
                    f"∇τ {of_method(f, 'nabla_tau', 'tow', 2, 1)}{beside['tow']}). ∇τ against the original: Avg.Gap **{comparison(gap)}** "
                    f"({gap.text()} points), JS on forget samples **{comparison(js)}** ({js.text(3, 1)}). Better on Avg.Gap than on JS, as "
                    f"expected? {_better_on_the_mean(comparison(gap), comparison(js))}.")


def _better_on_the_mean(gap: str, js: str) -> str:
    """A difference that is shown beside one that is not shown is no difference between the two."""
    if gap == "lower" and js == "higher":
        return "**yes**"
    if gap == "lower" and js == "no difference shown":
        return "**undecided**: Avg.Gap is lower, JS not distinguishable from the original's"
    return "**not shown**"


def one_glance(session) -> Markdown:
    """A preset with few seeds, quantity by method, minus retrained; did ∇τ move the attack at all?"""
    rows, told = [], []
    for name, f in random_runs(session):
        f = largest(f)
        rows += [{"minus retrained, points": f"{name} (n = {f.seed.nunique()}), {title}"}
                 | {label(m): paired(f, k, m, "retrain").text() for m in f.method.unique() if m != "retrain"}
                 for k, title in (("mia_l", "MIA_L"), ("mia_e", "MIA_E"), ("acc_test", "test accuracy"))]
        fell = paired(f, "mia_l", "nabla_tau", "original")
        told.append(f"{name} **{comparison(fell)}** ({fell.text()} points)")
    table = pd.DataFrame(rows).fillna("–").to_markdown(index=False, disable_numparse=True)
    return Markdown(f"*We measured:*\n\n{table}\n\n**As expected?** MIA_L of ∇τ against the original: {', '.join(told)}.")


def small_gaps(big, small) -> Markdown:
    """Text at two presets: how far the forget loss is from its target, in nats, and what a larger learning rate does to MIA_L."""
    told = []
    for session in (big, small):
        rows = of_domain(session, session.rows("curve"), text=True)
        first = rows[(rows.row == "epoch") & (rows.method == "nabla_tau") & (rows.epoch == 0)]
        if len(first):
            mean = {k: interval(first.groupby("seed")[k].mean()).text(3, 1) for k in ("tau", "forget_loss")}
            gap = interval((first.tau - first.forget_loss).groupby(first.seed).mean()).text(3, 1)
            told.append(f"{first.data.iloc[0]} target {mean['tau']}, forget loss {mean['forget_loss']}, gap {gap} nats")
    out = [f"*We measured*, on text, in the first pass: {'; '.join(told) or MISSING}."]
    if big.has("variants"):
        rows, runs = of_domain(big, big.rows("variants"), text=True), runs_of(big, text=True)
        start = runs[(runs.method == "original") & runs.scenario.isin(rows.scenario)].set_index("seed").mia_l
        moved = rows.pivot_table(index="seed", columns="variant", values="mia_l")
        gaps = {v: interval(moved[v] - start) for v in moved}
        said = [f"| {v} | {gap.text()} | **{comparison(gap)}** |" for v, gap in gaps.items()]
        head = f"| {NAMES.get(rows.data.iloc[0], rows.data.iloc[0])}, variant | MIA_L minus original, points | |" if len(rows) else ""
        out += ["\n".join([head, "|:---|:---|:---|", *said])] if said else []
    return Markdown("\n\n".join(out))


def unmet(session) -> Markdown:
    """The evidence of every claim that another preset refutes or leaves open."""
    table = session.verdicts()
    rows = table[table.verdict.isin([FAILS, OPEN])]
    said = [f"claim {r.claim} **{r.verdict}**: {r.evidence}" for r in rows.itertuples()]
    return Markdown(f"*We measured* (preset {session.preset}): {'; '.join(said) or 'no claim is refuted or left open'}.")


def answer(session, big=None) -> Markdown:
    """The answer to the notebook's question, from this session's records: yes, no or inconclusive by the rule of the verdicts."""
    out, words, fell = [], [], []
    for name, f in random_runs(session):
        sides = [k for k, side in _sides(f).items() if side == "over-forgets"]
        cells = {percent(s): _near(paired(f[f.scenario == s], "mia_l", "nabla_tau", "retrain"))
                 for s in sorted(f.scenario.unique(), key=fraction)}
        words += cells.values()
        f = largest(f)
        fell.append(comparison(paired(f, "mia_l", "nabla_tau", "original")) == "lower")
        lost, fair = (paired(f, "acc_test", "original", m).text() for m in ("nabla_tau", "retrain"))
        out.append(f"**{name.capitalize()}: {', '.join(f'{k} {v}' for k, v in cells.items())}** (at {percent(f.scenario.iloc[0])} "
                   f"{closed(f).text()} % of the way, test accuracy lost {lost}; by retraining {fair}"
                   + (f"; over-forgets at {', '.join(sides)}" if sides else "") + ").")
    return Markdown(f"**{_in_a_word(words, fell)}** *We measured* (preset {session.preset}): MIA_L within 3 points: yes in "
                    f"{words.count('yes')} of {len(words)} cases, no in {words.count('no')}. {' '.join([*out, *_beyond(session, big)])}")


def _beyond(session, big) -> list[str]:
    """What else the answer rests on: how soon it comes back, the other text data, and whether a rate was tuned."""
    out = []
    if session.has("relearn"):
        runs = focus(session, session.frame("relearn")).fillna({"batches": float("inf")})
        mine, fair = (sorted(runs[runs.method == m].batches) for m in ("nabla_tau", "retrain"))
        out.append(f"Relearned after {mine[0]:g} to {mine[-1]:g} batches (retrained {fair[0]:g} to {fair[-1]:g}).")
    words = largest(runs_of(big, text=True)) if big is not None else pd.DataFrame()
    if len(words):
        gap = paired(words, "mia_l", "nabla_tau", "original")
        out.append(f"{NAMES.get(words.data.iloc[0], words.data.iloc[0])}, published settings: {comparison(gap)} from the original.")
    chosen = session.settings.get("text", {}).get("grids", {}).get("nabla_tau")
    return out + (["Text's rate was tuned: no evidence for \"no tuning\"."] if chosen else [])


def _in_a_word(near: list[str], fell: list[bool]) -> str:
    """Yes if every case is within the margin; no if the attack fell for no kind of data; else partly. One seed says nothing."""
    if "one seed" in near:
        return "Not to be said from one seed."
    return "Yes." if set(near) == {"yes"} else "Partly." if any(fell) else "No."


def by_hand(tau: float, alpha: float, retain_loss: float, forget_losses: list[float]) -> Table:
    """The worked example from the library's own objective: its value, and its slope in the forget loss."""
    import torch

    from ...methods.nabla_tau import objective
    out = []
    for value in forget_losses:
        loss = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        total = objective(loss, torch.tensor(retain_loss, dtype=torch.float64), tau=tau, alpha=alpha)
        total.backward()
        push = loss.grad.item() + 0.0                                           # not -0
        out.append({"forget loss": value, "objective": f"{total.item():.4g}", "push on the forget loss": f"{push:.4g}"})
    return Table(pd.DataFrame(out))
