"""A bar chart as SVG: one bar a subject, one segment a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def bars(title: str, unit: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Horizontal bars, drawn to one scale; `rows`: label → segments in order. Readable on light and dark pages."""
    longest = max(sum(segments.values()) for _, segments in rows)
    scale, height = (WIDTH - LEFT - RIGHT) / longest, TOP + ROW * len(rows) + 34
    parts = list(dict.fromkeys(part for _, segments in rows for part in segments))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, (label, segments) in enumerate(rows):
        y, x = TOP + ROW * number, float(LEFT)
        out.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(label)}</text>')
        for part, value in segments.items():
            colour = COLOURS[parts.index(part) % len(COLOURS)]
            tip = f"<title>{escape(part)}: {value:.1f} {escape(unit)}</title>"
            out.append(f'<rect x="{x:.1f}" y="{y}" width="{value * scale:.1f}" height="{ROW - 10}" fill="{colour}">{tip}</rect>')
            x += value * scale
        out.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{sum(segments.values()):.1f} {escape(unit)}</text>')
    return "\n".join([*out, *_legend(parts, height - 14), "</svg>\n"])


def _legend(parts: Sequence[str], y: int) -> list[str]:
    out, x = [], 12
    for number, part in enumerate(parts):
        out.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        out.append(f'<text x="{x + 15}" y="{y}">{escape(part)}</text>')
        x += 32 + 7 * len(part)
    return out


WIDTH, LEFT, RIGHT, TOP, ROW = 760, 150, 120, 42, 34
FONT = 'font-family="system-ui, sans-serif" font-size="12" fill="#222222"'
COLOURS = ("#8a8a8a", "#2f6fb0", "#d9822b", "#4a9c5d", "#a2559c", "#c9b037", "#66a3a8")
