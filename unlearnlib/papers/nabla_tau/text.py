"""Tables of the ∇τ notebook, and a sentence for each, whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import pandas as pd

from ... import reference
from ...claims import FAILS, HOLDS, OPEN, Interval, comparison, interval, paired, within
from ...plots import label
from ...tables import MISSING, Markdown, Table, by_method, published, with_distance
from ..figures import focus
from ..prose import of_method, scaled
from ..studies import role_shown
from . import ATTACK
from .claims import ATTACKED, fraction, largest, of_domain, percent, random_runs, runs_of

COLUMNS = {"MIA_L (%)": ("mia_l", 1, 100), "MIA_E (%)": ("mia_e", 1, 100), "retain acc (%)": ("acc_retain", 1, 100),
           "test acc (%)": ("acc_test", 1, 100), "forget acc (%)": ("acc_forget", 1, 100)}
CLASS_COLUMNS = {"MIA_L, all test images (%)": ("mia_l", 1, 100), "MIA_L, the class's own (%)": ("mia_l_class", 1, 100),
                 "forget acc (%)": ("acc_forget", 1, 100), "test acc, the class (%)": ("acc_test_forget", 1, 100),
                 "test acc, others (%)": ("acc_test_retain", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "JS forget": ("js_forget", 2, 1), "JS test": ("js_test", 2, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 2, 1), "seconds": ("seconds", 2, 1), "MIA_L (%)": ("mia_l", 1, 100),
                "test acc (%)": ("acc_test", 1, 100)}


def paper_table(session, text: bool = False) -> Table | Markdown:
    """Fraction x method in the layout of the official code, beside the published values (none could be verified)."""
    frame = runs_of(session, text=text)
    if frame.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no such data.")
    return published(frame, "nabla_tau", by_method(frame, COLUMNS), ["MIA_L", "MIA_E"])


def class_table(session) -> Table | Markdown:
    frame = runs_of(session, "class")
    return by_method(frame, CLASS_COLUMNS) if len(frame) else Markdown(f"*Not available:* preset {session.preset} forgets no class.")


def audit_table(session) -> Table:
    """The common audit of the detailed scenario."""
    return by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS)


def cost_table(session) -> Table:
    """Cost of the method alone; seconds are those of the machine that made the records."""
    return by_method(largest(runs_of(session)), COST_COLUMNS)


def cost_reading(session, band: list[float]) -> Markdown:
    """What ∇τ costs as a share of retraining, against the band of the prediction box, in percent."""
    wide = largest(runs_of(session)).pivot_table(index="seed", columns="method", values="epochs")
    share = interval(100 * wide.nabla_tau / wide.retrain)
    inside = "inside" if band[0] <= share.mean <= band[1] else "outside"
    return Markdown(f"*We measured:* ∇τ costs {share.text(1, 1)} % of our retraining: **{inside}** our band, {band[0]:g} to {band[1]:g} %.")


def _texts(session) -> pd.DataFrame:
    """The five texts of the first seed, under three models; empty where the preset has none."""
    rows = of_domain(session, session.rows("images"), text=True) if session.has("images") else pd.DataFrame()
    return rows[(rows.row == "strip") & (rows.seed == rows.seed.min())] if len(rows) else rows


def examples(session, texts: int = 3) -> Table | Markdown:
    """A few texts as the model sees them, with their labels."""
    rows = _texts(session)
    if rows.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no single texts.")
    return Table(rows.drop_duplicates("text")[["name", "text"]].head(texts).rename(columns={"name": "label"}))


def five_texts(session) -> Table | Markdown:
    """Five texts, chosen by rule on the original model: probability of the label under three models."""
    rows, out = _texts(session), []
    if rows.empty:
        return Markdown(f"*Not available:* preset {session.preset} has no single texts.")
    for role, part in rows.groupby("role", sort=False):
        p = part.set_index("model").p_label
        out.append({"role": role_shown(role), "label": part.name.iloc[0], "text": part.text.iloc[0]}
                   | {f"{label(m)} (%)": f"{100 * p[m]:.1f}" for m in ("original", "nabla_tau", "retrain")})
    return Table(pd.DataFrame(out))


def expected(session, text: bool = False) -> Markdown:
    """The expectation before the paper's table, scored: MIA_L of ∇τ minus retrained, fraction by fraction."""
    frame = runs_of(session, text=text)
    parts = []
    for scenario in sorted(frame.scenario.unique(), key=fraction):
        part = frame[frame.scenario == scenario]
        gap, start, held = (paired(part, metric, m, "retrain") for metric, m in
                            (("mia_l", "nabla_tau"), ("mia_l", "original"), ("acc_forget", "nabla_tau")))
        parts.append(f"{percent(scenario)} **{_near(gap)}** ({gap.text()} points; the original {start.text()}; forget accuracy of ∇τ "
                     f"{held.text()})")
    ssd = [f"{percent(s)} **{comparison(gap)}** ({gap.text()})" for s in sorted(frame.scenario.unique(), key=fraction)
           if (gap := paired(frame[frame.scenario == s], "mia_l", "ssd", "original")).n]
    return Markdown(f"*We measured:* MIA_L of ∇τ within 3 points of retrained? {'; '.join(parts) or MISSING}. All minus retrained."
                    + (f" MIA_L of SSD against the original: {', '.join(ssd)}." if ssd else ""))


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
    beyond = ": beyond it on every seed, as training on the rest, without the class, goes on where the push began" if far else ""
    return Markdown(f"*We measured:* the target at the start is {start} nats, the forget loss at the end "
                    f"{of_method(f, 'nabla_tau', 'loss_forget', 2, 1)} (retrained {of_method(f, 'retrain', 'loss_forget', 2, 1)}){beyond}. "
                    f"Minus retrained: forget loss **{comparison(loss)}** ({loss.text(2, 1)} nats), test accuracy on the class "
                    f"**{comparison(answers)}** ({answers.text()} points), attack against the class's own test images "
                    f"**{comparison(own)}** ({own.text()}).")


def audit_reading(session) -> Markdown:
    """Who is nearest to the retrained model, and what single samples say."""
    f = with_distance(focus(session, session.frame()), ATTACK)
    mean = f[~f.method.isin(["original", "retrain"])].groupby("method")[["avg_gap", "tow"]].mean()
    near, tied = mean.avg_gap.idxmin(), mean.tow.idxmax()
    js, gap = (paired(f, metric, "nabla_tau", "original") for metric in ("js_forget", "avg_gap"))
    return Markdown(f"*We measured:* nearest to retrained by Avg.Gap: {label(near)} ({of_method(f, near, 'avg_gap')}; ∇τ "
                    f"{of_method(f, 'nabla_tau', 'avg_gap')}), by ToW: {label(tied)} ({of_method(f, tied, 'tow', 2, 1)}; ∇τ "
                    f"{of_method(f, 'nabla_tau', 'tow', 2, 1)}). ∇τ against the original: Avg.Gap **{comparison(gap)}** "
                    f"({gap.text()} points), JS on forget samples **{comparison(js)}** ({js.text(3, 1)}).")


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method: MIA_L / MIA_E / test accuracy, minus retrained; did ∇τ move the attack at all?"""
    parts, told = [], []
    for name, f in random_runs(session):
        f = largest(f)
        for m in [m for m in f.method.unique() if m != "retrain"]:
            gaps = [scaled(paired(f, k, m, "retrain"), 100).text(1, 1) for k in ("mia_l", "mia_e", "acc_test")]
            parts.append(f"{name} (n = {f.seed.nunique()}), {label(m)} {' / '.join(gaps)}")
        fell = paired(f, "mia_l", "nabla_tau", "original")
        told.append(f"{name} **{comparison(fell)}** ({fell.text()})")
    return Markdown(f"*We measured*, minus retrained, in points of MIA_L / MIA_E / test accuracy: {'; '.join(parts)}. "
                    f"MIA_L of ∇τ against the original: {', '.join(told)}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records: yes, no or inconclusive by the rule of the verdicts."""
    out = [f"*We measured* (preset {session.preset}). **Does the loss attack see a retrained model (to 3 points)?**"]
    for name, f in random_runs(session):
        words = [f"{percent(s)} {_near(paired(f[f.scenario == s], 'mia_l', 'nabla_tau', 'retrain'))}"
                 for s in sorted(f.scenario.unique(), key=fraction)]
        f = largest(f)
        out.append(f"**{name.capitalize()}: {', '.join(words)}.** At {percent(f.scenario.iloc[0])}, MIA_L falls from "
                   f"{of_method(f, 'original', 'mia_l')} to {of_method(f, 'nabla_tau', 'mia_l')} % "
                   f"(retrained {of_method(f, 'retrain', 'mia_l')}), for "
                   f"{paired(f, 'acc_test', 'original', 'nabla_tau').text()} points of test accuracy.")
    out.append("The objective is the same for both; learning rate and starting weight are not.")
    return Markdown(" ".join(out))


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
