# SPDX-License-Identifier: Apache-2.0
"""The chart of bench/startup.py, as SVG."""
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from measure import milliseconds  # noqa: E402


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def svg(result):
    """An SVG of bench/startup.py: a dot for the median, a line from the minimum to p90, on a logarithmic axis."""
    rows = sorted(result["rows"].items(), key=lambda item: item[1]["median"])
    left, right, step, top = 300, 700, 22, 40
    low = min(row["min"] for _, row in rows) / 1e6
    high = max(row["p90"] for _, row in rows) / 1e6
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low * 0.9 <= tick <= high * 1.1]

    def across(ns):
        return left + (right - left) * math.log(max(ns / 1e6, low) / low) / math.log(max(high / low, 1.01))
    height = top + step * len(rows) + 34
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="780" height="%d" font-family="sans-serif" font-size="12">' % height,
           '<rect width="780" height="%d" fill="#fff"/>' % height,
           '<text x="12" y="20" font-size="14">/bin/true from start to end, ms (median; minimum to 90th percentile; '
           'logarithmic)</text>']
    for tick in ticks:
        x = across(tick * 1e6)
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>' % (x, top - 8, x, height - 26))
        out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%g</text>' % (x, height - 10, tick))
    for number, (name, row) in enumerate(rows):
        y = top + step * number + 8
        color = "#b3261e" if name.startswith("mrunc") else "#777" if row["note"] == "no sandbox" else "#1f5fa8"
        out.append('<text x="%d" y="%d" text-anchor="end" fill="%s">%s</text>' % (left - 10, y + 4, color, escape(name)))
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="2"/>' % (
            across(row["min"]), y, across(row["p90"]), y, color))
        out.append('<circle cx="%.1f" cy="%d" r="4.5" fill="%s"><title>%s: %s ms</title></circle>' % (
            across(row["median"]), y, color, escape(name), milliseconds(row["median"])))
        out.append('<text x="%.1f" y="%d" fill="#333">%s</text>' % (across(row["p90"]) + 8, y + 4,
                                                                    milliseconds(row["median"])))
    return "\n".join(out + ["</svg>"]) + "\n"
