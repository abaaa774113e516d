"""Draws series over time as a PNG, one panel below the other; Pillow is there because reportlab needs it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

_FONT_FILE: Final = Path(__file__).parents[1] / "gateway" / "covers" / "fonts" / "DejaVuSans.ttf"
_WIDTH: Final = 1100
_HEADING: Final = 44
_PANEL: Final = 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 40, 34, 34
_INK: Final = (34, 40, 49)
_GRID: Final = (222, 226, 230)
_LINES: Final = ((31, 97, 160), (200, 90, 30), (60, 130, 70))
_STEPS: Final = (1, 2, 2.5, 5, 10)  # from one round number to the next, times a power of ten
_MOST_STEPS: Final = 5
_SWATCH: Final = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: its name, and its points (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the same axes, which start at 0; the names of several lines stand beside the title."""

    title: str
    series: Sequence[Series]
    x_unit: str = "s"


def draw(file: Path, heading: str, panels: Sequence[Panel]) -> None:
    """Write the picture. Blocks."""
    image = Image.new("RGB", (_WIDTH, _HEADING + _PANEL * len(panels)), "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((_LEFT, 14), heading, fill=_INK, font=ImageFont.truetype(str(_FONT_FILE), 16))
    font = ImageFont.truetype(str(_FONT_FILE), 13)
    for place, panel in enumerate(panels):
        _draw_panel(canvas, font, panel, _HEADING + place * _PANEL)
    image.save(file)


def step_of(most: float) -> float:
    """Return how far the round numbers on an axis to `most` are apart, so that it has two to five of them above 0."""
    if most <= 0:
        return 1.0
    least = most / _MOST_STEPS
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))


def _draw_panel(canvas: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, panel: Panel, top: int) -> None:
    points = [point for series in panel.series for point in series.points]
    most_x = max((x for x, _ in points), default=0.0) or 1.0
    most_y = max((y for _, y in points), default=0.0)
    step_x, step_y = step_of(most_x), step_of(most_y)
    steps_y = max(math.ceil(most_y / step_y - 1e-9), 1)
    width, height = _WIDTH - _LEFT - _RIGHT, _PANEL - _TOP - _BOTTOM
    upper, lower = top + _TOP, top + _PANEL - _BOTTOM
    for number in range(steps_y + 1):
        y = lower - height * number / steps_y
        canvas.line((_LEFT, y, _LEFT + width, y), fill=_GRID)
        canvas.text((_LEFT - 8, y), f"{step_y * number:,.4g}", fill=_INK, font=font, anchor="rm")
    for number in range(int(most_x / step_x + 1e-9) + 1):
        x = _LEFT + width * step_x * number / most_x
        canvas.line((x, lower, x, lower + 4), fill=_INK)
        canvas.text((x, lower + 8), f"{step_x * number:,.4g} {panel.x_unit}", fill=_INK, font=font, anchor="mt")
    canvas.line((_LEFT, upper, _LEFT, lower, _LEFT + width, lower), fill=_INK)
    canvas.text((_LEFT, upper - 10), panel.title, fill=_INK, font=font, anchor="ls")
    legend = _LEFT + font.getlength(panel.title) + _SWATCH
    for series, colour in zip(panel.series, cycle(_LINES), strict=False):
        line = [(_LEFT + width * x / most_x, lower - height * y / (step_y * steps_y)) for x, y in series.points]
        if len(line) > 1:
            canvas.line(line, fill=colour, width=2)
        for x, y in line if len(line) == 1 else ():
            canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        if len(panel.series) > 1:
            canvas.line((legend, upper - 14, legend + _SWATCH, upper - 14), fill=colour, width=2)
            canvas.text((legend + _SWATCH + 6, upper - 10), series.name, fill=colour, font=font, anchor="ls")
            legend += font.getlength(series.name) + 2 * _SWATCH + 6
