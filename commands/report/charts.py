# SPDX-License-Identifier: Apache-2.0
"""Draws the SVG charts of the page of `mrunc report --html`, from numbers alone."""

WIDE, HIGH, LEFT, BOTTOM, TOP = 360, 112, 46, 18, 6
#: Tops of a scale, in units of a power of ten or of 1024.
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
#: Seconds over which processor time is averaged: the kernel counts it in steps of 10 ms.
WINDOW = 0.2
#: Smaller values are drawn as 0.
SMALLEST = 1e-9


def processors(samples):
    """Returns [(seconds, processors in use)] from samples: processor time divided by time."""
    known = [row for row in samples if row["cpu_s"] is not None]
    if len(known) < 2:
        return []
    window = max(WINDOW, (known[-1]["t_s"] - known[0]["t_s"]) / 80)
    out, before = [], known[0]
    for row in known[1:]:
        passed = row["t_s"] - before["t_s"]
        if passed >= window or row is known[-1] and not out and passed > 0:
            rate = max(0.0, row["cpu_s"] - before["cpu_s"]) / passed
            if not out:
                out.append((before["t_s"], rate))
            out.append((row["t_s"], rate))
            before = row
    return out


def series(samples, key):
    """Returns [(seconds, value)] of a key, without samples that lack it."""
    return [(row["t_s"], row[key]) for row in samples if row[key] is not None]


def ceiling(most, base=1):
    """Returns a round number of at least `most`, for the top of a scale. base: 1024 for bytes."""
    scale = 1.0
    if base == 1024:
        while most >= scale * 1024:
            scale *= 1024
    else:
        while most > scale * 10:
            scale *= 10
        while SMALLEST < most <= scale:
            scale /= 10
    for step in STEPS:
        if most <= step * scale:
            return step * scale
    return scale * 1024


def line_chart(points, end, words, base=1):
    """Returns a chart as SVG.

    points: [(seconds, value)], two or more
    end: seconds, the right border
    words: function that returns a value as text
    base: as of ceiling
    """
    top = ceiling(max(value for _, value in points) or 1, base)
    end = max(end, points[-1][0]) or 1.0

    def place(point):
        return "%.1f,%.1f" % (LEFT + (WIDE - LEFT) * min(1.0, point[0] / end),
                              TOP + (HIGH - TOP - BOTTOM) * (1 - min(1.0, point[1] / top)))
    path = " ".join(place(point) for point in points)
    floor = HIGH - BOTTOM
    first, last = place((points[0][0], 0)), place((points[-1][0], 0))
    out = ['<svg viewBox="0 0 %d %d" role="img" aria-hidden="true">' % (WIDE, HIGH)]
    for share in (0, 0.5, 1):
        y = floor - (floor - TOP) * share
        out.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDE, y, y))
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (
            LEFT - 6, y + 3.5, words(top * share)))
    out.append('<polygon class="area" points="%s %s %s"/>' % (first, path, last))
    out.append('<polyline class="line" points="%s"/>' % path)
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        out.append('<text x="%.1f" y="%d" text-anchor="%s">%s</text>' % (
            LEFT + (WIDE - LEFT) * share, HIGH - 4, anchor, clock(end * share)))
    return "".join(out) + "</svg>"


def clock(seconds):
    """Returns a moment on the time axis as text."""
    if seconds >= 120:
        return "%d:%02d min" % divmod(round(seconds), 60)
    return "%.3g s" % seconds


def lane(start, stop, end):
    """Returns a bar from start to stop on a line from 0 to end, in seconds, as SVG."""
    end = end or 1.0
    left = 100 * min(1.0, max(0.0, start / end))
    wide = max(0.8, 100 * min(1.0, max(0.0, stop / end)) - left)
    left = min(left, 99.2)
    return ('<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="back" x="0" y="4.5" width="100" height="3"/>'
            '<rect class="run" x="%.2f" y="1.5" width="%.2f" height="9"/></svg>' % (
                left, min(wide, 100 - left)))
