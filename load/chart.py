"""Draws series over time as a PNG, one panel below the other; Pillow is there because reportlab needs it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

_FONT_FILE: Final = Path(__file__).parents[1] / "gateway" / "covers" / "fonts" / "DejaVuSans.ttf"
_WIDTH: Final = 1100
_PANEL: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 40, 34
_INK: Final = (34, 40, 49)
_GRID: Final = (222, 226, 230)
_LINES: Final = ((31, 97, 160), (200, 90, 30), (60, 130, 70))
_TICKS: Final = 4
_ENDS: Final = (1, 2, 4, 6, 8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: its name, and its points (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the same axes; y starts at 0."""

    title: str
    series: Sequence[Series]
    x_unit: str = "s"


def draw(file: Path, panels: Sequence[Panel]) -> None:
    """Write the picture. Blocks."""
    image = Image.new("RGB", (_WIDTH, _PANEL * len(panels)), "white")
    canvas = ImageDraw.Draw(image)
    font = ImageFont.truetype(str(_FONT_FILE), 13)
    for place, panel in enumerate(panels):
        _draw_panel(canvas, font, panel, place * _PANEL)
    image.save(file)


def round_up(value: float) -> float:
    """Return the end of an axis that reaches `value`, such that its quarters are short numbers; 1 when it is 0."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _ENDS if step * power >= value * (1 - 1e-9))


def _draw_panel(canvas: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, panel: Panel, top: int) -> None:
    points = [point for series in panel.series for point in series.points]
    most_x = round_up(max((x for x, _ in points), default=0.0))
    most_y = round_up(max((y for _, y in points), default=0.0))
    width, height = _WIDTH - _LEFT - _RIGHT, _PANEL - _TOP - _BOTTOM
    upper, lower = top + _TOP, top + _PANEL - _BOTTOM
    canvas.text((_LEFT, top + 12), panel.title, fill=_INK, font=font)
    for tick in range(_TICKS + 1):
        y = lower - height * tick / _TICKS
        x = _LEFT + width * tick / _TICKS
        canvas.line((_LEFT, y, _LEFT + width, y), fill=_GRID)
        canvas.text((_LEFT - 8, y), f"{most_y * tick / _TICKS:,.4g}", fill=_INK, font=font, anchor="rm")
        label = f"{most_x * tick / _TICKS:,.4g} {panel.x_unit}"
        canvas.text((x, lower + 8), label, fill=_INK, font=font, anchor="mt" if tick < _TICKS else "rt")
    canvas.line((_LEFT, upper, _LEFT, lower, _LEFT + width, lower), fill=_INK)
    for number, series in enumerate(panel.series):
        colour = _LINES[number % len(_LINES)]
        line = [(_LEFT + width * x / most_x, lower - height * y / most_y) for x, y in series.points]
        if len(line) > 1:
            canvas.line(line, fill=colour, width=2)
        for x, y in line if len(line) == 1 else ():
            canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        if len(panel.series) > 1:
            at = _LEFT + width - 10 - 150 * (len(panel.series) - 1 - number)
            canvas.text((at, top + 12), series.name, fill=colour, font=font, anchor="ra")
