"""Makes golden.json beside it: statistics as scipy, numpy and statsmodels compute them.

    python tests/golden/stats/golden.py

Needs PyPI numpy, scipy and statsmodels; the numbers are drawn here, from a fixed seed.
"""

import itertools
import json
import math
import pathlib

import numpy as np
from scipy import stats
import statsmodels.api as sm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

rng = np.random.default_rng(20)


def robust(values, clusters):
    """Mean, cluster-robust error and p-value of a regression on nothing but a constant."""
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(clusters)}, use_t=True
    )
    return float(fit.bse[0]), float(fit.pvalues[0])


def clusters_of(sizes):
    return [c for c, size in enumerate(sizes) for _ in range(size)]


def drawn(clusters, binary=False):
    effect = rng.normal(size=max(clusters) + 1)
    values = np.array([effect[c] + rng.normal() for c in clusters])
    return (values > 0).astype(float) if binary else values


def score():
    for sizes, binary in [([3] * 10, False), ([1, 5, 2, 9, 4], False), ([4] * 12, True), ([1] * 15, False)]:
        clusters = clusters_of(sizes)
        values = drawn(clusters, binary)
        error, _ = robust(values, clusters)
        yield {
            "values": values.tolist(),
            "clusters": clusters,
            "mean": float(values.mean()),
            "stderr": float(stats.sem(values)),
            "clustered_stderr": error,
        }


def paired():
    for sizes in [[3] * 10, [1, 5, 2, 9, 4, 3], [2] * 40]:
        clusters = clusters_of(sizes)
        baseline = drawn(clusters)
        candidate = baseline + 0.3 + 0.5 * drawn(clusters)
        error, p = robust(candidate - baseline, clusters)
        yield {
            "baseline": baseline.tolist(),
            "candidate": candidate.tolist(),
            "clusters": clusters,
            "t_p": float(stats.ttest_rel(candidate, baseline).pvalue),
            "clustered_stderr": error,
            "clustered_p": p,
        }


def mcnemars():
    for b, c in [(0, 0), (0, 5), (6, 0), (3, 9), (12, 13), (5, 20), (13, 13), (10, 16), (30, 60), (400, 500)]:
        exact = b + c <= 25
        result = mcnemar([[10, b], [c, 10]], exact=exact, correction=True)
        p = float(result.pvalue)
        if b == c and not exact:
            # |b − c| − 1 is negative, and squared it would count as a difference; corrected to 0.
            p = 1.0
        yield {"b": b, "c": c, "exact": exact, "p": min(p, 1.0)}


def holm():
    for p in [[0.01, 0.04, 0.03, 0.005], [0.5, 0.9, 0.2], [0.001], rng.uniform(0, 0.1, 12).tolist()]:
        yield {"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()}


def ranks():
    lists = [
        ([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]),
        ([1, 1, 2, 3, 3, 3], [2, 1, 2, 5, 4, 4]),
        (rng.normal(size=25).tolist(), rng.normal(size=25).tolist()),
        (rng.integers(0, 6, 40).tolist(), rng.integers(0, 4, 40).tolist()),
    ]
    for a, b in lists:
        pairs = list(itertools.combinations(range(len(a)), 2))
        s = sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs)
        yield {
            "a": a,
            "b": b,
            "ranks_a": stats.rankdata(a).tolist(),
            "spearman": float(stats.spearmanr(a, b).statistic),
            "tau_a": float(s / len(pairs)),
            "tau_b": float(stats.kendalltau(a, b).statistic),
        }


def pass_at_k():
    for m, c, k in [(5, 2, 1), (5, 2, 3), (5, 4, 2), (10, 3, 5), (64, 7, 8), (64, 60, 4), (200, 13, 100)]:
        yield {"m": m, "c": c, "k": k, "pass": 1 - math.comb(m - c, k) / math.comb(m, k)}


def signal():
    steps = [3, 6, 9, 12, 15]
    rows, curves = [], {}
    for run, rise, seeds in [("a", 0.03, 4), ("b", 0.02, 1), ("c", 0.021, 1)]:
        for seed in range(seeds):
            scores = [float(0.25 + rise * s / 3 + 0.01 * rng.normal()) for s in steps]
            curves[run, seed] = scores
            rows += [{"run": run, "seed": seed, "tokens": t, "score": s} for t, s in zip(steps, scores)]
    spread = np.std([curves["a", seed] for seed in range(4)], axis=0, ddof=1)
    mean = {run: np.mean([v for (r, _), v in curves.items() if r == run], axis=0) for run in "abc"}
    for score_at, ranking_from in [(15, 6), (12, 9)]:
        at = steps.index(score_at)
        kept = [i for i, s in enumerate(steps) if s >= ranking_from]
        taus = []
        for i, j in itertools.pairwise(kept):
            pairs = list(itertools.combinations("abc", 2))
            sign = lambda i, r, q: np.sign(mean[r][i] - mean[q][i])
            taus.append(sum(sign(i, r, q) * sign(j, r, q) for r, q in pairs) / len(pairs))
        finals = [mean[run][at] for run in "abc"]
        yield {
            "rows": rows,
            "baseline": 0.25,
            "score_at": score_at,
            "ranking_from": ranking_from,
            "monotonicity": float(np.mean([stats.spearmanr(steps, c).statistic for c in curves.values()])),
            "signal_to_noise": float(np.mean(finals) / spread.mean()),
            "margin": float((max(finals) - 0.25) / spread[at]),
            "ranking": float(np.mean(taus)),
        }


def distributions():
    zs = [0.0, 0.01, 0.5, 1.0, 1.96, 2.8, 2.83, 2.9, 5.0, 8.0]
    student = itertools.product([0.001, 0.3, 1.0, 2.2, 5.0], [1, 2, 5, 30, 999, 200_000, 400_000, 2_000_000_000])
    critical = itertools.product([0.5, 0.05, 0.001, 1e-6], [1, 3, 20, 1000, None])
    return {
        "normal": [{"z": z, "p": 2 * float(stats.norm.sf(z))} for z in zs],
        "student": [{"t": t, "dof": d, "p": 2 * float(stats.t.sf(t, d))} for t, d in student],
        "critical": [
            {"alpha": a, "dof": d, "t": float(stats.t.isf(a / 2, d) if d else stats.norm.isf(a / 2))}
            for a, d in critical
        ],
    }


def quantile():
    for size, q in [(1, 0.3), (2, 0.25), (11, 0.5), (40, 0.975), (40, 0.0), (40, 1.0)]:
        values = np.sort(rng.normal(size=size))
        yield {"sorted": values.tolist(), "q": q, "value": float(np.quantile(values, q))}


golden = distributions() | {
    "score": list(score()),
    "paired": list(paired()),
    "mcnemar": list(mcnemars()),
    "holm": list(holm()),
    "ranks": list(ranks()),
    "pass_at_k": list(pass_at_k()),
    "signal": list(signal()),
    "quantile": list(quantile()),
}
path = pathlib.Path(__file__).parent / "golden.json"
lines = [f"{json.dumps(kind)}: [\n" + ",\n".join(map(json.dumps, cases)) + "\n]" for kind, cases in golden.items()]
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
