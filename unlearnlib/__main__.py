"""The command line: compute records without a notebook, see what is there, compare, redraw."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pandas as pd
import yaml
from tqdm import tqdm

from . import data, papers, runs
from .access import AccessError
from .current import unless_current
from .files import DamagedFile
from .records import Spec, Store, frame

KEPT = {"rehearse": "a rehearsal keeps nothing", "bench": "the rows that were measured are kept, and the same command measures them anew"}


def _names(requested: list[str]) -> list[str]:
    names = list(papers.PAPERS) if requested in ([], ["all"]) else requested
    for name in names:
        papers.paper(name)
    return names


def _overrides(arguments) -> dict:
    out = {}
    for assignment in arguments.set or []:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set got {assignment!r}; it must be KEY=VALUE: for example --set model=allcnn-24.")
        try:
            out[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {key} got {value!r}; it must be a YAML value: close brackets and quotes.") from error
    if arguments.seeds is not None:
        out["seeds"] = arguments.seeds
    return out


def _settings(name: str, arguments) -> dict:
    """The settings of a paper, with the values and the scenario of the command line."""
    values = papers.settings(name, arguments.preset, **_overrides(arguments))
    return papers.only_scenario(values, arguments.scenario) if arguments.scenario else values


def _whole(name: str, arguments) -> list[Spec]:
    return papers.paper(name).plan(_settings(name, arguments))


def _plan(name: str, arguments) -> list[Spec]:
    """The specs that the command line asks for."""
    specs = [s for s in _whole(name, arguments) if arguments.data in (None, s.data)]
    if arguments.method:
        from .methods import method
        if arguments.method != "original":
            method(arguments.method)
        specs = [s for s in specs if s.method == arguments.method]
    return specs


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _plans(arguments) -> dict[str, list[Spec]]:
    """The specs of every paper that the command line names; a paper may have none of them, but not all papers."""
    plans = {name: _plan(name, arguments) for name in _names(arguments.papers)}
    _need_some(plans, arguments)
    return plans


def _need_some(plans: dict[str, list[Spec]], arguments) -> None:
    if not any(plans.values()):
        asked = " ".join(f"--{key} {value}" for key in ("scenario", "data", "method") if (value := getattr(arguments, key)))
        there = [s for name in plans for s in _whole(name, arguments)]
        sets, methods = (", ".join(dict.fromkeys(getattr(s, key) for s in there)) for key in ("data", "method"))
        raise ValueError(f"{asked} leaves no run of {', '.join(plans)} at preset {arguments.preset}; data must be among {sets}, and the "
                         f"method among {methods}: choose a method that is run on the data.")


def run(arguments) -> None:
    stores, lacking, plans = {}, {}, _plans(arguments)
    for name, specs in plans.items():
        reuse = None if arguments.recompute else Store.reference(arguments.preset, name)
        stores[name] = Store.fresh(arguments.preset, name), reuse
        known = {key for store in stores[name] if store for key in store.read()}
        lacking[name] = [s for s in specs if s.key not in known]
    for dataset, scenario in dict.fromkeys((s.data, s.scenario) for missing in lacking.values() for s in missing):
        data.split(data.load(dataset), scenario)                                # every one, before the first is computed
    for name, specs in plans.items():
        (store, reuse), missing = stores[name], lacking[name]
        there = len(specs) - len(missing)
        print(f"{name} at preset {arguments.preset}: {len(specs)} runs, {there} already there, {len(missing)} to compute.", flush=True)
        if missing:
            epochs, seconds = runs.estimate(missing, arguments.jobs)
            print(f"  {len(runs.jobs_of(missing))} reference models and the runs: about {epochs:,.0f} training-epoch equivalents, likely "
                  f"{_duration(seconds)} with {arguments.jobs} process(es) on this machine. Interrupt freely: it resumes.", flush=True)
        if arguments.dry_run:
            continue
        with runs.pool(arguments.jobs if missing else 1) as executor:
            done = runs.runs(specs, store, reuse=reuse, executor=executor)
        if missing:
            peak = max(r.timing.get("memory", 0) for r in done if r.spec in missing)
            print(f"  done: {store.path}\n  peak memory of a run: {peak:,.0f} MiB", flush=True)


def rehearse(arguments) -> int:
    """Every run of the papers once at the least budget: does it run on this machine, in how much memory? Nothing is kept."""
    failed = False
    with TemporaryDirectory() as place, patch.dict(os.environ, UNLEARNLIB_DATA=str(data.data_root()), UNLEARNLIB_CACHE=place):
        plans = {name: papers.paper(name).plan(papers.rehearsal(_settings(name, arguments), arguments.samples))
                 for name in _names(arguments.papers)}
        plans = {name: [s for s in specs if arguments.method in (None, s.method)] for name, specs in plans.items()}
        _need_some(plans, arguments)
        for name, specs in plans.items():
            print(f"{name} at preset {arguments.preset}: {len(specs)} runs, 1 seed, {arguments.samples} samples, least budget", flush=True)
            rows, problems = [], {}
            for spec in tqdm(specs, disable=None, leave=False):
                started = time.perf_counter()
                try:
                    memory = runs.compute(spec).timing["memory"]
                    rows.append((spec.data, spec.model, spec.study, spec.method, time.perf_counter() - started, memory))
                except (ValueError, RuntimeError) as error:                     # also: data that are missing, memory that is full
                    problems.setdefault(str(error), []).append(str(spec))
            table = pd.DataFrame(rows, columns=["data", "model", "study", "method", "seconds", "MiB"])
            shown = table.groupby(list(table.columns[:4])).max().reset_index()
            print(shown.to_markdown(index=False, floatfmt=".1f"), flush=True)
            for problem, where in problems.items():
                print(f"{len(where)} run(s) failed, the first of them {where[0]}: {problem}", flush=True)
            failed |= bool(problems)
    return int(failed)


def status(arguments) -> None:
    for name in _names(arguments.papers):
        for preset in papers.PRESETS:
            try:
                keys = {s.key for s in papers.paper(name).plan(papers.settings(name, preset))}
            except ValueError:                                                  # the preset has no section for this paper
                continue
            for title, store in (("reference", Store.reference(preset, name)), ("this machine", Store.fresh(preset, name))):
                have = set(store.read())
                print(f"{name} {preset} {title:>12}: {len(keys & have)} computed, {len(keys - have)} missing, "
                      f"{len(have - keys)} stale or from other settings")


def verify(arguments) -> int:
    from .verify import verify as compare
    failed = False
    for name in _names(arguments.papers):
        report = compare(name, arguments.preset, arguments.seeds)
        print(f"{name} at preset {arguments.preset}: {len(report.values)} numbers compared, {100 * report.outside:.1f} % outside their "
              f"tolerance, {report.missing} reference records not computed here")
        print(report.by.to_markdown(index=False, floatfmt=".4f"))
        worst = report.values[report.values.outside].sort_values("difference", ascending=False).head(10)
        if len(worst):
            shown = worst[["run", "metric", "reference", "here", "difference", "tolerance"]]
            print("\nThe largest differences outside:\n" + shown.to_markdown(index=False, floatfmt=".4f"))
        if report.missing:
            print(f"\nVerdicts need all records: run 'python -m unlearnlib run {name} --preset {arguments.preset} --recompute' first.")
        else:
            print("\n" + report.verdicts.to_markdown(index=False))
        print("reproduced" if report.passed else "NOT reproduced")
        failed |= not report.passed
    return int(failed)


def records(arguments) -> None:
    for name in _names(arguments.papers):
        keys = [s.key for s in papers.paper(name).plan(papers.settings(name, arguments.preset))]
        fresh, reference = Store.fresh(arguments.preset, name).read(), Store.reference(arguments.preset, name)
        lacking = sum(k not in fresh for k in keys)
        if lacking:
            raise ValueError(f"{lacking} of {len(keys)} records of {name} are missing; all must be there: run "
                             f"'python -m unlearnlib run {name} --preset {arguments.preset} --recompute' first.")
        reference.path.unlink(missing_ok=True)
        reference.add(fresh[k] for k in keys)
        print(f"{reference.path}: {len(keys)} records")


def notebook(arguments) -> None:
    from . import notebooks
    for name in _names(arguments.papers):
        papers.settings(name, arguments.preset, seeds=arguments.seeds)         # refused here in one sentence, not in a kernel
        if arguments.in_place:
            print(f"executed: {notebooks.in_place(name)}")
            continue
        given = {"recompute": arguments.recompute, "seeds": arguments.seeds}
        path = notebooks.copy(name, arguments.preset)
        work = partial(notebooks.execute, name, arguments.preset, **given)
        changed = unless_current("notebook", name, arguments.preset, given, work, [path])
        print(f"{'executed' if changed else 'nothing has changed since'}: {path}")


def draw(arguments) -> None:
    for name in _names(arguments.papers):
        presets = [arguments.preset] if not arguments.committed else \
            [p for p in papers.PRESETS if p != "digits" and Store.reference(p, name).path.exists()]
        for preset in presets:
            if not unless_current("draw", name, preset, {}, partial(_draw, name, preset)):
                print(f"{name} {preset}: nothing has changed since it was drawn")


def _draw(name: str, preset: str) -> None:
    found = Store.fresh(preset, name).read() | Store.reference(preset, name).read()
    session = papers.Session(name, preset, write=True, found=found)
    if len(session.records) < len(session.specs):
        raise ValueError(f"{len(session.specs) - len(session.records)} of {len(session.specs)} records of {name} at preset {preset} are "
                         f"missing; all must be there to be drawn: run 'python -m unlearnlib run {name} --preset {preset}' first.")
    for done in papers.draw(session):
        print(f"{name} {preset}: {done}")


def datasets(arguments) -> None:
    if arguments.action == "fetch":
        if arguments.name not in data.FETCHED:
            raise ValueError(f"data set is {arguments.name!r}; it must be one of {', '.join(data.FETCHED)} (cifar20 reads cifar100): "
                             "correct it.")
        try:
            data.fetch(arguments.name)
        except (OSError, RuntimeError) as error:
            raise data.DataError(f"{arguments.name} could not be fetched ({error}); its server must be reachable: try again, or set "
                                 "UNLEARNLIB_DATA to a folder that holds it.") from error
    for name in data.DATASETS:
        try:
            d = data.load(name)
            print(f"{name:>14}: {len(d.train_labels):,} training, {len(d.val_labels):,} validation, {len(d.test_labels):,} test "
                  f"{'texts' if d.words else 'images'}, {len(d.class_names)} classes")
        except data.DataError as error:
            print(f"{name:>14}: {error}")


def tune(arguments) -> None:
    """Repeat the search for hyper-parameters: smallest Avg.Gap at the pilot seed, for every method by the same rule."""
    from .tables import with_distance
    for name in _names(arguments.papers):
        trials = papers.paper(name).tuning(papers.settings(name, arguments.preset))
        if not trials:
            print(f"{name} at preset {arguments.preset}: nothing is tuned, every method runs at the preset's settings.", flush=True)
            continue
        folder = data.cache_root() / "tuning" / f"{name}-{arguments.preset}.jsonl"
        with runs.pool(arguments.jobs) as executor:
            done = runs.runs([t[-1] for t in trials], Store(folder), executor=executor)
        attack = getattr(papers.paper(name), "ATTACK", "mia_entropy")
        tried = frame(done).assign(kind=[t[1] for t in trials], tried=[str(t[2]) for t in trials])
        table = pd.concat(with_distance(part, attack) for _, part in tried.groupby("data"))
        table = table[table.method != "retrain"].sort_values(["data", "kind", "method", "avg_gap"])
        table["chosen"] = ~table.duplicated(["data", "kind", "method"])
        print(table[["data", "kind", "method", "tried", "avg_gap", "tow", "acc_forget", "acc_retain", "acc_test", attack, "chosen"]]
              .to_markdown(index=False, floatfmt=".3f"))


def bench(arguments) -> None:
    from . import bench as benchmark
    benchmark.main(arguments.parts)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m unlearnlib", description="Re-run machine-unlearning papers, without a notebook.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, function, text: str, preset: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        sub.add_argument("papers", nargs="*", help=f"{', '.join(papers.PAPERS)}, or all (default)")
        if preset:
            sub.add_argument("--preset", default="digits", help=f"the scale: {', '.join(papers.PRESETS)} (default: digits)")
        return sub

    def choices(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--scenario", help="only this one: class:ID, subclass:ID or random:FRACTION, also one that the preset lacks")
        sub.add_argument("--method", help="only this method's runs")
        sub.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a number of the preset (repeatable)")

    sub = command("run", run, "compute the missing records of papers; says what it will do and how long it is likely to take")
    choices(sub)
    sub.add_argument("--seeds", type=int, help="seeds of the whole pipeline (default: the preset's)")
    sub.add_argument("--jobs", type=int, default=1, help="processes side by side, one thread each (default: 1)")
    sub.add_argument("--data", choices=data.DATASETS, metavar="NAME", help="only the runs on this data set")
    sub.add_argument("--recompute", action="store_true", help="do not read the committed reference records: really run everything")
    sub.add_argument("--dry-run", action="store_true", help="say what would be computed, and stop")
    sub = command("rehearse", rehearse, "run everything once on few samples and the least budget: does it run here, in how much memory?")
    choices(sub)
    sub.add_argument("--samples", type=int, default=512, help="training, validation and test samples of each data set (default: 512)")
    sub.set_defaults(seeds=None, data=None)
    command("status", status, "what is computed, missing, stale", preset=False)
    sub = command("verify", verify, "compare this machine's records with the reference")
    sub.add_argument("--seeds", type=int, help="compare only so many seeds (default: the preset's)")
    command("records", records, "take this machine's records as the new reference")
    sub = command("notebook", notebook, "execute notebooks: a copy into the cache folder, or in place")
    sub.add_argument("--recompute", action="store_true", help="use this machine's own records, not the reference")
    sub.add_argument("--seeds", type=int)
    sub.add_argument("--in-place", action="store_true", help="with the notebook's own defaults, storing its outputs in it")
    sub = command("draw", draw, "draw figures and verdicts from reference records, without a notebook")
    sub.add_argument("--committed", action="store_true", help="every preset above digits that has reference records")
    sub = command("tune", tune, "repeat the search for hyper-parameters at the pilot seed")
    sub.add_argument("--jobs", type=int, default=1)
    sub = commands.add_parser("data", help="which data sets are there, and how to get the rest")
    sub.add_argument("action", nargs="?", choices=["list", "fetch"], default="list")
    sub.add_argument("name", nargs="?", default="")
    sub.set_defaults(function=datasets)
    sub = commands.add_parser("bench", help="time our implementations against the forms a user would run otherwise")
    sub.add_argument("parts", nargs="*", help="throughput, flops, retraining, growth, ratios (default: all, in this order)")
    sub.set_defaults(function=bench)
    return top


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    runs.single_thread()
    try:
        return int(arguments.function(arguments) or 0)
    except (ValueError, data.DataError, DamagedFile, AccessError, PermissionError) as error:
        print(f"unlearnlib: {error}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print(f"unlearnlib: one of {arguments.jobs} processes ended before its run was done (main memory may be full); what the others had "
              "finished is kept: give the same command again with --jobs 1.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"unlearnlib: interrupted; {KEPT.get(arguments.command, 'what was computed is kept, and the same command goes on there')}.",
              file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
