"""A dark page of grey pictures with text and marks over them.

Pictures are copied pixel for pixel, never resampled; matplotlib draws only the text and marks over them.
"""

import io
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.figures.tiles import scale_bar_mm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI: Final = 110
INK: Final = "#f2f4f6"
SOFT: Final = "#a9b4be"
_GROUND: Final = 0x10
WEBP_PX: Final = 16383  # the longest side that a WebP can have
_WEBP_QUALITY: Final = 90


class Page:
    """A page of `size_px` (width, height). Coordinates are its pixels, with (0, 0) the centre of the top-left one."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        from matplotlib.figure import Figure

        width, height = size_px
        self.canvas: NDArray[np.uint8] = np.full((height, width), _GROUND, np.uint8)
        self._figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self._axes: Any = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set_xlim(-0.5, width - 0.5)
        self._axes.set_ylim(height - 0.5, -0.5)

    def picture(self, picture: NDArray[np.uint8], corner: tuple[int, int], rim: int | None = None) -> None:
        """Places grey values [height, width] with their top left at `corner`, with a rim of one pixel if given."""
        (left, top), (height, width) = corner, picture.shape
        if rim is not None:
            self.canvas[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1] = rim
        self.canvas[top : top + height, left : left + width] = picture

    def write(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Writes light text with a dark rim, readable over bright fat; `size` is in points, y the middle."""
        from matplotlib.patheffects import withStroke

        style = {"color": INK, "va": "center", "ha": "left", "clip_on": True, **style}
        rim = withStroke(linewidth=2.8, foreground="black")
        self._axes.text(x, y, text, fontsize=size, path_effects=[rim], parse_math=False, **style)

    def line(self, x: list[float], y: list[float], **style: Any) -> None:
        """Draws a line through the points; `style` as in matplotlib."""
        self._axes.plot(x, y, **style)

    def mark(self, x: float, y: float, *, diamond: bool, color: str, size: float) -> None:
        """Draws a ring or diamond with a dark rim, `size` points wide and empty inside."""
        for shade, width in (("black", 3.2), (color, 1.6)):
            self._axes.plot(x, y, marker="D" if diamond else "o", ms=size, mfc="none", mec=shade, mew=width, ls="")

    def bar(self, right: float, y: float, px_per_mm: float, longest_px: float) -> None:
        """Draws a scale bar that ends at `right`, labelled in mm."""
        mm = scale_bar_mm(px_per_mm, longest_px)
        left = right - mm * px_per_mm
        self.line([left, right], [y, y], color=INK, lw=2, solid_capstyle="butt")
        for x in (left, right):
            self.line([x, x], [y - 5, y + 5], color=INK, lw=1.4)
        self.write(left - 8, y, f"{mm} mm", 9, ha="right")

    def image(self) -> NDArray[np.uint8]:
        """The finished page as RGB, [height, width, 3]."""
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format="rgba", dpi=DPI, transparent=True)
        over = np.frombuffer(buffer.getvalue(), np.uint8).reshape(*self.canvas.shape, 4)
        result = np.repeat(self.canvas[..., None], 3, axis=2)
        inked = over[..., 3] > 0
        alpha = over[inked, 3:].astype(np.float32) / 255
        result[inked] = np.rint(over[inked, :3] * alpha + result[inked] * (1 - alpha)).astype(np.uint8)
        return result


def figure_of(image: NDArray[np.uint8]) -> "Figure":
    """An RGB image [height, width, 3] as a matplotlib figure of the same size in pixels."""
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(image, interpolation="none", aspect="auto")
    return figure


def png_bytes(image: NDArray[np.uint8], compression: int = 4) -> bytes:
    """An RGB image [height, width, 3] as PNG; the same image gives the same bytes."""
    _, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, compression])
    return bytes(content.tobytes())


def webp_bytes(image: NDArray[np.uint8]) -> bytes:
    """An RGB image [height, width, 3] as lossy WebP, for looking at; the same image gives the same bytes."""
    _, content = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])
    return bytes(content.tobytes())
