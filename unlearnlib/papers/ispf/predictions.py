"""The prediction box of the ISPF notebook: what we expected and why, what was measured, what we think about each miss."""

from __future__ import annotations

from ...claims import Interval, interval, paired
from ...tables import Markdown, Table
from .. import prose
from ..figures import focus
from ..prose import scaled
from .claims import curves, single

# what we think that the reason of a miss is: the sentence begins with "we think that"
MISSED = {
    ("dropped", "below"): "the teacher is surer of what it sees than we thought, so less is suspect",
    ("dropped", "above"): "the images are vague: the teacher finds a trace of the class in many of them",
    ("share", "below"): "the inhibition is stronger here than in the trial",
    ("share", "above"): "so few images of the class are drawn anyway that there is little to inhibit",
    ("let through", "below"): "the gate drops vague images of other classes, and inhibition does not make those surer",
    ("let through", "above"): "without the class the images are surer, and pass",
    ("gain", "below"): "in so few epochs the surer rows that are left make up for the lost ones",
    ("gain", "above"): "in so short a training every lost row counts",
    ("forgotten", "above"): "the threshold lets through what it lets through: up to one percent of the class in each image",
    ("forgotten", "below"): "the filter and the inhibition together leave no trace of the class",
    ("leak", "below"): "what the teacher takes for another class teaches the student too little of this one",
    ("leak", "above"): "images between the classes carry it across",
    ("cost", "below"): "the generator is smaller, or the training longer, than reckoned",
    ("cost", "above"): "the generator costs as much as the network at this scale",
    ("relearning", "below"): "traces of the class reached the student, or a weaker network is turned around faster",
    ("relearning", "above"): "the student's features are poorer, so it learns the class more slowly",
}
QUANTITIES = {
    "dropped": ("rows that GKT drops although the teacher takes them for another class, second half of the epochs (% of a batch)",
                "three tenths in a trial with one seed"),
    "share": ("images taken for the class: ISPF as a share of PostFilter alone (%)", "inhibition makes the class rare"),
    "let through": ("kept by the gate, with inhibition minus without (points)", "less of the class, so less to suspect"),
    "gain": ("A_r at the end, ISPF minus GKT (points)", "every row is used"),
    "forgotten": ("A_f of ISPF at the end (%)", "no image shows the class, and the filter takes what is left"),
    "leak": ("A_f of BlockF at its highest epoch, where it ran (%)", "vague images of the class pass under another name"),
    "cost": ("cost of ISPF as a share of retraining (%)", "from the settings: batches times steps, and the generator"),
    "relearning": ("relearning time of ISPF over that of retrained (a run that never relearns counts as one batch more than tried)",
                   "neither has seen the class"),
}


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box, one class forgotten at a time, scenarios averaged first."""
    rows, frame = curves(session), single(session, session.frame())
    late = rows[(rows.method == "gkt_dfq") & (rows.share > 0.5)]
    per_run = rows.groupby(["method", "scenario", "seed"])[["predicted_forget", "kept"]].mean().reset_index()
    shares = per_run.pivot_table(index="seed", columns="method", values="predicted_forget")
    blocked = rows[rows.method == "blockf"].groupby(["scenario", "seed"]).acc_test_forget.max()
    costs = frame.pivot_table(index="seed", columns="method", values="epochs")
    there = focus(session, session.frame())
    ratio = []
    if "batches" in there:                                                      # never: one batch more than were tried
        tried = session.rows("unlearn").batch.max()
        batches = there.fillna({"batches": tried + 1}).pivot(index="seed", columns="method", values="batches")
        ratio = batches.ispf / batches.retrain
    return {
        "dropped": scaled(interval((1 - late.predicted_forget - late.kept).groupby(late.seed).mean()), 100),
        "share": scaled(interval(shares.ispf / shares.pf if "pf" in shares else []), 100),
        "let through": scaled(paired(per_run, "kept", "is_gkt", "gkt_dfq"), 100),
        "gain": scaled(paired(frame, "acc_test_retain", "ispf", "gkt_dfq"), 100),
        "forgotten": scaled(interval(frame[frame.method == "ispf"].groupby("seed").acc_test_forget.mean()), 100),
        "leak": scaled(interval(blocked.groupby("seed").mean()), 100),
        "cost": scaled(interval(costs.ispf / costs.retrain), 100),
        "relearning": interval(ratio),
    }


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return prose.box(QUANTITIES, bands)


def predictions(session, bands: dict) -> Table:
    """Score the prediction box."""
    return prose.predictions(measured(session), QUANTITIES, bands)


def misses(session, bands: dict) -> Markdown:
    """What we think about each band that was missed."""
    found, reasons = measured(session), {k: f"we think that {why}" for k, why in MISSED.items()}
    own = _relearning(session, found["relearning"], bands["relearning"]) if "relearning" in bands else ""
    others = {k: band for k, band in bands.items() if not own or k != "relearning"}
    out = prose.misses(found, QUANTITIES, reasons, others).text
    return Markdown(own if own and out == prose.misses({}, QUANTITIES, {}, {}).text else f"{out} {own}".strip())


def _relearning(session, index: Interval, band: list[float]) -> str:
    """A mean below the band whose interval reaches into it, and yet lies below 1 as a whole: sooner than the retrained model."""
    if not index.n or index.mean >= band[0] or not band[0] <= index.high < 1:
        return ""
    runs = focus(session, session.frame())
    never = runs[runs.batches.isna()].groupby("method").seed.nunique()
    tried = session.rows("unlearn").batch.max() + 1
    bound = (f" It is an upper bound: \"never\" counts as {tried:g}." if never.get("retrain", 0) and not never.get("ispf", 0) else "")
    return f"*Relearning time* is below the band by its mean, and below 1 (as soon as retrained) by its whole interval.{bound}"
