"""What was measured as bars: a panel for each case, the shorter the better."""
from xml.sax.saxutils import escape

import report

COLUMNS = 3
PANEL_W, BAR_H, GAP, TITLE_H = 330, 16, 4, 30
LABEL_W, VALUE_W = 62, 96
COLOURS = {"weir": "#1565c0", "floor": "#9e9e9e"}
PEER = "#c8a165"


def bars(results, case):
    """(system, median, how it is written), where there is one."""
    unit = " us" if case.figure == "cpu_us" else " B"
    out = []
    for system in results.systems:
        value = report.median_of(results.samples[case.name][system.name], case.figure)
        if value is not None:
            to_floor = report.comparisons(results, case, system.name)[0]
            shown = report.number(value, 1 if case.figure == "cpu_us" else 0) + unit
            out.append((system.name, value, shown + (f"  {to_floor:.2f}x" if to_floor is not None else "")))
    return out


def panel(results, case, x, y):
    rows = bars(results, case)
    largest = max((value for _, value, _ in rows), default=1) or 1
    room = PANEL_W - LABEL_W - VALUE_W - 20
    out = [f'<text x="{x}" y="{y + 18}" font-weight="bold">{escape(case.name)}<title>{escape(case.title)}</title></text>']
    for i, (name, value, shown) in enumerate(rows):
        top = y + TITLE_H + i * (BAR_H + GAP)
        width = max(1, room * max(0, value) / largest)
        out.append(f'<text x="{x + LABEL_W - 6}" y="{top + 12}" text-anchor="end">{escape(name)}</text>')
        out.append(f'<rect x="{x + LABEL_W}" y="{top}" width="{width:.1f}" height="{BAR_H}" fill="{COLOURS.get(name, PEER)}"/>')
        out.append(f'<text x="{x + LABEL_W + width + 5:.1f}" y="{top + 12}">{escape(shown)}</text>')
    return out


def svg(results):
    panel_h = TITLE_H + len(results.systems) * (BAR_H + GAP) + 14
    down = -(-len(results.cases) // COLUMNS)
    width, height = COLUMNS * PANEL_W + 20, down * panel_h + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           '<text x="20" y="24" font-size="15">CPU time of the server for each request (idle, memory: bytes). The shorter the '
           'better. x: times the floor.</text>']
    for i, case in enumerate(results.cases):
        out += panel(results, case, 20 + i % COLUMNS * PANEL_W, 40 + i // COLUMNS * panel_h)
    return "\n".join([*out, "</svg>"]) + "\n"
