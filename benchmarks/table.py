"""Results as Markdown tables, a row for each work and contender and one for each stage: python benchmarks/table.py benchmarks/results/*.json"""

import json
import sys
from pathlib import Path


def main(files: list[str]) -> None:
    """Prints the rows of all files; where several have the same one, that of the file named last."""
    rows, stages = {}, {}
    for name in files:
        held = json.loads(Path(name).read_text("utf-8"))
        rows |= {(r["model"], r["work"], r["against"]): r for r in held["rows"]}
        stages |= {(s["model"], s["name"]): s for s in held["stages"]}
    print(
        "| model | work | against | times as fast | pairs | ours / theirs, s | numbers differ by (may) |\n|---|---|---|---|---|---|---|"
    )
    for (model, work, against), r in rows.items():
        if r["ratio"] is None:
            print(f"| {model} | {work} | {against} | – | | | {r['why']} |")
            continue
        print(
            f"| {model} | {work} | {against} | {r['ratio']:.1f} [{r['low']:.1f}, {r['high']:.1f}] | {r['pairs']} | "
            f"{r['seconds_ours']:.3g} / {r['seconds_theirs']:.3g} | {r['strict_difference']:.2g} ({r['tolerance']:.2g}{'' if r['same'] else ': not the same'}) |"
        )
    if not stages:
        return
    kinds = list(next(iter(stages.values()))["spent"])
    print(
        f"\n| model | stage | tokens | of the limit | same shapes | {' | '.join(kinds)} |\n|{'---|' * (5 + len(kinds))}"
    )
    for (model, name), s in stages.items():
        spent = " | ".join(f"{100 * s['spent'][k]:.0f}" for k in kinds)
        print(f"| {model} | {name} | {s['tokens']} | {s['share']:.0%} | {s['share_same_shapes']:.0%} | {spent} |")


if __name__ == "__main__":
    main(sys.argv[1:])
