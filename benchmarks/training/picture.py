"""The results as bars: examples per second of every system, a panel for each case."""
from pathlib import Path

import altair as alt
import vl_convert
from results import Results
from systems import CASES
from table import examples_a_step

OURS, THEIRS, INK = "#0f766e", "#b8b4aa", "#3f3f3f"


def draw(results: Results, path: Path) -> Path:
    """Write the chart as SVG; each panel has a scale of its own."""
    panels = [panel for case in CASES if (panel := _panel(results, case)) is not None]
    if panels:
        chart = alt.concat(*panels, columns=2, spacing=28).configure_view(stroke=None).to_dict(validate=False)
        path.write_text(vl_convert.vegalite_to_svg(chart), encoding="utf-8")
    return path


def _panel(results: Results, case: str) -> alt.LayerChart | None:
    rows = [
        {"system": m.system, "rate": m.examples_per_s(), "text": f"{m.examples_per_s():.2f}", "ours": m.system.startswith("feinschliff")}
        for m in results.case(case)
        if m.measured
    ]
    if not rows:
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("system:N", sort="-x", title=None, axis=alt.Axis(labelColor=INK, labelLimit=200, domain=False, ticks=False)),
        x=alt.X("rate:Q", title="examples per second", axis=alt.Axis(tickCount=4, grid=False, titleFontWeight="normal")),
    )
    colour = alt.Color("ours:N", scale=alt.Scale(domain=[True, False], range=[OURS, THEIRS]), legend=None)
    bars, texts = base.mark_bar(height=14).encode(color=colour), base.mark_text(align="left", dx=4, color=INK).encode(text="text:N")
    title = alt.TitleParams(f"{CASES[case].data}, {examples_a_step(results.case(case))} examples a step", anchor="start", fontSize=13)
    return alt.layer(bars, texts).properties(width=330, height=alt.Step(20), title=title)
