"""Sentences and small tables of the ∇τ notebook whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import pandas as pd

from ... import reference
from ...claims import FAILS, HOLDS, OPEN, Interval, comparison, interval, paired, within
from ...plots import label
from ...tables import MISSING, Markdown, Table, by_method, published, with_distance
from .. import NotAvailable, prose
from ..figures import focus
from ..prose import scaled
from . import ATTACK
from .claims import ATTACKED, fraction, gaps, largest, of_domain, percent, runs_of
from .studies import BINS

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


def _texts(session) -> pd.DataFrame:
    """The five texts of the first seed, under three models; empty where the preset has none."""
    there = any(r.spec.study == "images" for r in session.records)
    rows = of_domain(session, session.rows("images"), text=True) if there else pd.DataFrame()
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
        out.append({"role": role, "label": part.name.iloc[0], "text": part.text.iloc[0]}
                   | {f"{label(m)} (%)": f"{100 * p[m]:.1f}" for m in ("original", "nabla_tau", "retrain")})
    return Table(pd.DataFrame(out))


def _run(session, wanted: bool) -> pd.DataFrame:
    return largest(runs_of(session, text=wanted))


def closed(frame: pd.DataFrame, metric: str = "mia_l") -> Interval:
    """Share of the gap from original to retrained that ∇τ closes, seed by seed: 0 is the original, 1 the retrained model."""
    if not {"original", "nabla_tau", "retrain"} <= set(frame.method):
        return interval([])
    wide = frame.pivot_table(index="seed", columns="method", values=metric)
    return interval((wide.original - wide.nabla_tau) / (wide.original - wide.retrain))


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box, in the units that its bands use; those that the preset lacks have n = 0."""
    frame, words = _run(session, False), _run(session, True)
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    return {
        "closed": scaled(closed(frame), 100),
        "settles": scaled(_settles(session), 100),
        "lost": scaled(paired(frame, "acc_test", "original", "nabla_tau"), 100),
        "fine-tuning": scaled(paired(frame, "mia_l", "finetune", "nabla_tau"), 100),
        "text": scaled(closed(words), 100) if len(words) else interval([]),
        "cost": scaled(interval(wide.nabla_tau / wide.retrain), 100),
        "relearning": interval(_relearning(session)),
    }


def _settles(session) -> Interval:
    """Mean forget loss at the end over the last target, on the image data of the detailed scenario."""
    if not any(r.spec.study == "curve" for r in session.records):
        return interval([])
    rows = of_domain(session, session.rows("curve"))
    rows = rows[rows.method == "nabla_tau"]
    last = rows[rows.row == "curve"].groupby("seed").loss_forget.last()
    return interval(last / rows[rows.row == "epoch"].groupby("seed").tau.last())


def _relearning(session) -> list[float]:
    try:
        session.need("relearn")
    except NotAvailable:
        return []
    return prose.relearning(focus(session, session.frame("relearn")), "nabla_tau")


SHOWN = ("original", "nabla_tau", "retrain")
SEEN, OFF = "tau from seen data", "alpha0 = 0 (off)"
QUANTITIES = {
    "closed": ("MIA_L gap from original to retrained that is closed, images (%)", "a small trial on natural images closed three quarters"),
    "settles": ("forget loss at the end, as a share of the target (%)", "it stops by itself, a little below"),
    "lost": ("test accuracy lost, images (points)", "forget and test samples look alike"),
    "fine-tuning": ("fine-tuned minus ∇τ in MIA_L, images (points)", "fine-tuning never looks at the forget set"),
    "text": ("the gap closed, text (%)", "the objective knows nothing of images"),
    "cost": ("cost against retraining (%)", "6 passes over the retain set instead of 20"),
    "relearning": ("relearning batches, relative to retrained", "a loss was raised, the features stay"),
}
MISSED = {
    ("closed", "below"): "the weight fades out before the forget loss has come near its target",
    ("closed", "above"): "the attack is told apart less than from the retrained model: more was forgotten than needed",
    ("settles", "below"): "training on the retain set pulls the forget loss down again between two pushes, and the weight fades too soon",
    ("settles", "above"): "the target itself moved, or the last batches overshot",
    ("lost", "below"): "the retain set was trained on further, and that helped",
    ("lost", "above"): "ascent on random samples hurts what they have in common with the rest",
    ("fine-tuning", "below"): "a high learning rate makes fine-tuning forget too, and ∇τ adds little to it here",
    ("fine-tuning", "above"): "fine-tuning forgets even less than we thought",
    ("text", "below"): "the text model holds on to its forget set more than the image model did",
    ("text", "above"): "more was forgotten than needed",
    ("cost", "below"): "fewer batches than reckoned",
    ("cost", "above"): "more batches, or a cheaper retraining, than reckoned",
    ("relearning", "below"): "the model starts near the mark already: little of its accuracy on the forget set was gone",
    ("relearning", "above"): "the forgotten samples come back more slowly than for a model that never saw them",
}


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return prose.box(QUANTITIES, bands)


def predictions(session, bands: dict) -> Table:
    """Score the prediction box."""
    return prose.predictions(measured(session), QUANTITIES, bands)


def misses(session, bands: dict) -> Markdown:
    """What we think about each band that was missed."""
    return prose.misses(measured(session), QUANTITIES, MISSED, bands)


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _of(frame: pd.DataFrame, name: str, metric: str, digits: int = 1, scale: float = 100) -> str:
    return interval(frame[frame.method == name][metric]).text(digits, scale)


def _three(frame: pd.DataFrame, metric: str) -> str:
    return ", ".join(f"{label(m)} {_of(frame, m, metric)}" for m in ("original", "finetune", "nabla_tau", "retrain"))


def _curves(session) -> str:
    parts = []
    for name, text in (("images", False), ("text", True)):
        f = _run(session, text)
        if len(f):
            gap = paired(f, "mia_l", "nabla_tau", "finetune")
            parts.append(f"{name} at {percent(f.scenario.iloc[0])}: MIA_L {_three(f, 'mia_l')} %; ∇τ against fine-tuned: {comparison(gap)} "
                         f"({gap.text()} points); test accuracy {_three(f, 'acc_test')} %")
    return ". ".join(parts) + "."


def _wrong_way(session) -> str:
    rows = focus(session, session.rows("curve"))
    rows = rows if "hp_retain_weight" in rows else rows.assign(hp_retain_weight=float("nan"))
    ends = rows[(rows.row == "curve")].groupby(["method", "hp_retain_weight", "seed"], dropna=False).last().reset_index()
    mine = ends[ends.method == "neggrad_plus"].sort_values("hp_retain_weight", ascending=False)
    if mine.empty:
        raise NotAvailable(f"preset {session.preset} has no run of NegGrad+.")
    parts = [f"retain weight {w:g}: forget loss {interval(part.loss_forget).text(2, 1)}, test accuracy {interval(part.acc_test).text()} %"
             for w, part in mine.groupby("hp_retain_weight", sort=False)]
    nabla = ends[ends.method == "nabla_tau"]
    return ("NegGrad+ with " + "; with ".join(parts) + f". ∇τ: {interval(nabla.loss_forget).text(2, 1)} and "
            f"{interval(nabla.acc_test).text()} %.")


def _inside(session) -> str:
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "epoch")]
    parts = []
    for name, part in rows.groupby("data", sort=False):
        first, last = (part[part.epoch == e] for e in (part.epoch.min(), part.epoch.max()))
        parts.append(f"{name}: target {interval(first.tau).text(2, 1)} at first, {interval(last.tau).text(2, 1)} at the last refresh; "
                     f"forget loss of the last pass {interval(last.forget_loss).text(2, 1)}; ascent on in "
                     f"{interval(first.active).text()} % of the first and {interval(last.active).text()} % of the last pass's batches; "
                     f"forget loss against the last target: {comparison(_above(part))}")
    return "; ".join(parts) + "."


def _above(part: pd.DataFrame) -> Interval:
    """Forget loss of the last pass minus its target, over seeds."""
    last = part[part.epoch == part.epoch.max()].groupby("seed")[["forget_loss", "tau"]].mean()
    return interval(last.forget_loss - last.tau)


def _histograms(session) -> str:
    parts = []
    for name, text in (("images", False), ("text", True)):
        f = _run(session, text)
        if len(f):
            losses = [f"{label(m)} {_of(f, m, 'loss_forget', 2, 1)} / {_of(f, m, 'loss_test', 2, 1)}" for m in SHOWN]
            low = [f"{label(m)} {_low(session, f.data.iloc[0], m, 'forget')} / {_low(session, f.data.iloc[0], m, 'test')}" for m in SHOWN]
            parts.append(f"{name}, forget / test samples: mean loss {', '.join(losses)}; share in the first bar (%) {', '.join(low)}")
    return "; ".join(parts) + "."


def _low(session, name: str, model: str, part: str) -> str:
    """Share of samples in the first bar of the histogram, which a log axis hides."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.data == name) & (rows.row == "density") & (rows.model == model) & (rows.part == part)]
    return interval(rows[rows.loss == BINS[0]].groupby("seed").density.sum() * (BINS[1] - BINS[0])).text(0)


def _variants(session) -> str:
    rows = session.rows("variants")
    parts = []
    for name, part in rows.groupby("data", sort=False):
        wide = part.pivot_table(index="seed", columns="variant", values="mia_l")
        base = next(v for v in wide if v.startswith("as "))
        parts += [f"{name}, {v}: {comparison(interval(wide[v] - wide[base]))} ({interval(wide[v] - wide[base]).text()})"
                  for v in wide if v != base]
        if {SEEN, OFF} <= set(wide):
            gap = interval(wide[SEEN] - wide[OFF])
            parts.append(f"{name}, {SEEN} against off: **{comparison(gap)}** ({gap.text()})")
    return "MIA_L against the first row, in points: " + "; ".join(parts) + "."


def _grid(session) -> str:
    rows, parts = gaps(session), []
    for share, cell in rows.groupby("fraction"):
        mean = cell.groupby("alpha0").gap.apply(interval)
        best = min(mean.index, key=lambda a: mean[a].mean)
        ruled = min(mean.index, key=lambda a: abs(a - cell.rule.iloc[0]))
        parts.append(f"{100 * share:g} %: {mean[best].text()} at α₀ = {best:g}, {mean[ruled].text()} at the rule's {ruled:g}")
    return f"smallest |MIA_L − 50| in points, and that of the rule: {'; '.join(parts)}."


def _cost(session) -> str:
    f = _run(session, False)
    wide = f.pivot_table(index="seed", columns="method", values="epochs")
    time = f.pivot_table(index="seed", columns="method", values="seconds")
    return (f"∇τ costs {interval(wide.nabla_tau / wide.retrain).text()} % of our retraining in samples, "
            f"{interval(time.nabla_tau / time.retrain).text()} % in seconds (its batches are smaller); its test accuracy minus retrained: "
            f"{paired(f, 'acc_test', 'nabla_tau', 'retrain').text()} points, its MIA_L: "
            f"{paired(f, 'mia_l', 'nabla_tau', 'retrain').text()}.")


def _ruler(session) -> str:
    f = focus(session, session.frame())
    target = f[f.method == "retrain"]
    spread, parts = target[["mia_l", "mia_e", "loss_forget", "acc_test"]].std(), []
    for name in f.method.unique():
        mean = f[f.method == name][spread.index].mean()
        if name not in ("original", "retrain") and ((mean - target[spread.index].mean()).abs() <= spread.fillna(0) + 1e-12).all():
            parts.append(label(name))
    return f"within the band on both attacks, the forget loss and test accuracy: {', '.join(parts) or 'nobody'}."


def _relearn(session) -> str:
    rows, r = focus(session, session.rows("relearn")), focus(session, session.frame("relearn"))
    start, parts = rows[rows.batch == 0], []
    for m in ("nabla_tau", "finetune", "retrain"):
        batches = sorted(r[r.method == m].batches.fillna(float("inf")))
        parts.append(f"{label(m)} {', '.join(f'{b:g}' for b in batches)} (starting from {_of(start, m, 'acc_forget')} %)")
    return f"mini-batches until 95 % of the original's forget accuracy, seed by seed: {'; '.join(parts)}."


READINGS = {"curves": _curves, "wrong_way": _wrong_way, "inside": _inside, "histograms": _histograms, "variants": _variants, "grid": _grid,
            "cost": _cost, "ruler": _ruler, "relearn": _relearn}


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
    return Markdown(f"*We measured:* MIA_L of ∇τ within 3 points of retrained? {'; '.join(parts) or MISSING}. All minus retrained.")


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
    answers, own = (paired(f, metric, "nabla_tau", "retrain") for metric in ("acc_test_forget", "mia_l_class"))
    there = any(r.spec.study == "curve" for r in session.records)
    rows = of_domain(session, session.rows("curve")) if there else pd.DataFrame({"row": []})
    first = rows[(rows.row == "epoch") & (rows.epoch == 0) & (rows.method == "nabla_tau")] if there else rows
    start = interval(first.tau).text(2, 1) if there else MISSING
    far = f[f.method == "nabla_tau"].loss_forget.min() > (first.tau.max() if there else float("inf"))
    beyond = ": beyond it on every seed, as training on the rest, without the class, goes on where the push began" if far else ""
    return Markdown(f"*We measured:* the target at the start is {start} nats, the forget loss at the end "
                    f"{_of(f, 'nabla_tau', 'loss_forget', 2, 1)} (retrained {_of(f, 'retrain', 'loss_forget', 2, 1)}){beyond}. "
                    "Minus retrained: "
                    f"test accuracy on the class {comparison(answers)} ({answers.text()} points), attack against the class's own test "
                    f"images {comparison(own)} ({own.text()}).")


def audit_reading(session) -> Markdown:
    """Who is nearest to the retrained model, and what single samples say."""
    f = with_distance(focus(session, session.frame()), ATTACK)
    mean = f[~f.method.isin(["original", "retrain"])].groupby("method")[["avg_gap", "tow"]].mean()
    near, tied = mean.avg_gap.idxmin(), mean.tow.idxmax()
    js = paired(f, "js_forget", "nabla_tau", "original")
    return Markdown(f"*We measured:* nearest to retrained by Avg.Gap: {label(near)} ({_of(f, near, 'avg_gap')}; ∇τ "
                    f"{_of(f, 'nabla_tau', 'avg_gap')}), by ToW: {label(tied)} ({_of(f, tied, 'tow', 2, 1)}; ∇τ "
                    f"{_of(f, 'nabla_tau', 'tow', 2, 1)}). JS of ∇τ on forget samples against the original's: {comparison(js)} "
                    f"({js.text(3, 1)}).")


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method: MIA_L / MIA_E / test accuracy, minus retrained."""
    parts = []
    for name, text in (("images", False), ("text", True)):
        f = _run(session, text)
        for m in [m for m in f.method.unique() if m != "retrain"]:
            gaps = [scaled(paired(f, k, m, "retrain"), 100).text(1, 1) for k in ("mia_l", "mia_e", "acc_test")]
            parts.append(f"{name} (n = {f.seed.nunique()}), {label(m)} {' / '.join(gaps)}")
    return Markdown(f"*We measured*, minus retrained, in points of MIA_L / MIA_E / test accuracy: {'; '.join(parts)}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records: yes, no or inconclusive by the rule of the verdicts."""
    out = [f"*We measured* (preset {session.preset}). **Does the loss attack see a retrained model (to 3 points)?**"]
    for name, text in (("Images", False), ("Text", True)):
        f = runs_of(session, text=text)
        if f.empty:
            continue
        words = [f"{percent(s)} {_near(paired(f[f.scenario == s], 'mia_l', 'nabla_tau', 'retrain'))}"
                 for s in sorted(f.scenario.unique(), key=fraction)]
        f = largest(f)
        out.append(f"**{name}: {', '.join(words)}.** At {percent(f.scenario.iloc[0])}, MIA_L falls from "
                   f"{_of(f, 'original', 'mia_l')} to {_of(f, 'nabla_tau', 'mia_l')} % (retrained {_of(f, 'retrain', 'mia_l')}), for "
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
