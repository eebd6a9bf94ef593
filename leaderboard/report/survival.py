"""Did the update cross the grid, and did the text come back? Both beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..table import Row, Value
from .layout import MISSING, escape_markdown, markdown_line, name

FEW, MANY = 0.25, 0.5
BACK = 0.25
TITLES = {
    "verbmem": "VerMem",
    "knowmem": "KnowMem",
    "privleak": "PrivLeak",
    "utility": "Utility",
}
HEADER = (
    "Method",
    "Finetuning",
    "Grid",
    "‖ΔW‖/‖W0‖",
    "Effective rank",
    "Indices changed",
    "Scales changed",
    "max |ΔW|/s",
    *(f"{sign} {title}" for title in TITLES.values() for sign in ("Δ", "way back")),
)


def survival_markdown(rows: list[Row]) -> str:
    """A section with one line per checkpoint and round-to-nearest grid; empty without any."""
    lines, remarks = [], []
    for row in _measured(rows):
        total = _report(row)["total"]
        crossing = total["crossings"][row.precision]
        behaviour = [
            _number(row.values.get(f"{kind}_{metric}"), share=kind == "way_back")
            for metric in TITLES
            for kind in ("recovery", "way_back")
        ]
        lines.append(
            markdown_line(
                [
                    escape_markdown(name(row, rows)),
                    escape_markdown(row.finetuning),
                    escape_markdown(row.precision),
                    f"{total['relative_norm']:.4f}",
                    f"{total['effective_rank']:.1f}",
                    f"{crossing['changed_indices']:.1%}",
                    f"{crossing['changed_scales']:.1%}",
                    f"{crossing['largest_move']:.2f}",
                    *behaviour,
                ]
            )
        )
        if remark := _remark(row, crossing["changed_indices"]):
            remarks.append(f"- {escape_markdown(remark)}")
    if not lines:
        return ""
    parts = [
        "## What of the update survives rounding",
        "\n".join(
            [
                markdown_line([escape_markdown(title) for title in HEADER]),
                markdown_line(["---"] * len(HEADER)),
                *lines,
            ]
        ),
        "ΔW is what unlearning did to the quantized layers' weights W0. An index is a weight's "
        "place on the quantizer's grid, s the grid's step. The way back goes from the unlearned "
        "model to the target under the same quantizer.",
    ]
    if remarks:
        parts.append("\n".join(remarks))
    return "\n\n".join(parts)


def _remark(row: Row, changed: float) -> str | None:
    """Says where index changes and behaviour tell different stories."""
    back = row.values.get("way_back_verbmem")
    if back is None or row.forgot is None:
        return None
    what = f"{row.method} {row.finetuning} at {row.precision}: {changed:.0%} of the indices changed"
    came = f"VerMem went {back.mean:.0%} of the way back"
    if changed < FEW and back.mean < BACK and row.forgot:
        return f"{what}, yet it stayed unlearned ({came}): few moves were enough."
    if changed > MANY and back.mean >= BACK:
        return f"{what}, and yet text came back ({came}): the moves did not hold it."
    return None


def plot_survival(rows: list[Row], path: Path) -> bool:
    """Share of changed indices by layer, full against LoRA; False where there is nothing to plot.

    One panel per grid, one line per checkpoint; layers in the model's order.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    by_grid: dict[str, list[Row]] = {}
    for row in _measured(rows):
        by_grid.setdefault(row.precision, []).append(row)
    if not by_grid:
        return False
    figure, panels = plt.subplots(
        1, len(by_grid), figsize=(6 * len(by_grid), 4), sharey=True, squeeze=False
    )
    for panel, (grid, members) in zip(panels[0], by_grid.items(), strict=True):
        for row in members:
            shares = share_by_block(_report(row)["layers"], grid)
            panel.plot(
                list(shares),
                [100 * share for share in shares.values()],
                label=f"{name(row, rows)} {row.finetuning}",
                linestyle="-" if row.finetuning == "lora" else "--",
                marker="o",
                markersize=3,
            )
        panel.set_title(grid)
        panel.set_xlabel("layer")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_ylim(0, 100)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("quantized indices changed (%)")
    panels[0][-1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def share_by_block(layers: dict[str, Any], grid: str) -> dict[int, float]:
    """Share of changed indices per transformer block: the number in its modules' names."""
    changed: dict[int, float] = {}
    weights: dict[int, int] = {}
    for module, report in layers.items():
        numbers = [int(part) for part in module.split(".") if part.isdigit()]
        if not numbers:
            continue
        share = report["crossings"][grid]["changed_indices"]
        changed[numbers[0]] = changed.get(numbers[0], 0.0) + share * report["parameters"]
        weights[numbers[0]] = weights.get(numbers[0], 0) + report["parameters"]
    return {block: changed[block] / weights[block] for block in sorted(changed)}


def _measured(rows: list[Row]) -> list[Row]:
    """Rows of unlearned models at a precision whose grid was measured."""
    return [
        row
        for row in rows
        if row.survival is not None and row.precision in row.survival["total"]["crossings"]
    ]


def _report(row: Row) -> dict[str, Any]:
    return row.survival or {}


def _number(value: Value | None, share: bool) -> str:
    if value is None:
        return MISSING
    return f"{value.mean:.0%}" if share else f"{value.mean:+.1f}"
