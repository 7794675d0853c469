"""Draw docs/architecture.svg, the block diagram of a conversion. Needs only the standard library.

python docs/architecture.py
"""

from pathlib import Path

WIDTH, HEIGHT = 1080, 570
BOX_HEIGHT = 52
LINE = "#333333"
LEARNED, FROZEN, COMPUTED, SIGNAL = "#d6e6f5", "#e0efd5", "#ffffff", "#eeeeee"

# left, vertical centre, width, fill, title, subtitle
BOXES = [
    (20, 120, 100, SIGNAL, "source", "recording"),
    (20, 355, 100, SIGNAL, "target", "recordings"),
    (150, 120, 100, COMPUTED, "log-mel", "80 × frames"),
    (150, 355, 100, COMPUTED, "log-mel", "80 × frames"),
    (140, 50, 120, FROZEN, "recognizer", "its features"),
    (310, 50, 160, COMPUTED, "envelope modulation", "above 10 Hz"),
    (310, 120, 160, LEARNED, "content encoder", "128 × frames / 4"),
    (310, 190, 160, LEARNED, "F0 encoder", "1 × frames / 2"),
    (310, 285, 160, LEARNED, "content encoder", "keys, per frame"),
    (310, 355, 160, LEARNED, "speaker encoder", "embedding, values"),
    (310, 425, 160, LEARNED, "F0 encoder", "mean, std of log-F0"),
    (310, 495, 160, FROZEN, "speaker network", "pooled statistics"),
    (560, 225, 140, COMPUTED, "F0 transfer", "to the target's F0"),
    (560, 120, 140, LEARNED, "decoder", "AdaIN, attention"),
    (740, 120, 120, LEARNED, "postfilter", "fine detail"),
    (900, 120, 90, LEARNED, "vocoder", "source-filter"),
    (1010, 120, 60, SIGNAL, "result", "22 kHz"),
]
# Each arrow is a polyline from the first point to the last.
ARROWS = [
    [(120, 120), (150, 120)],
    [(120, 355), (150, 355)],
    [(250, 120), (310, 120)],
    [(70, 94), (70, 50), (140, 50)],
    [(260, 40), (295, 40), (295, 106), (310, 106)],
    [(280, 120), (280, 64), (310, 64)],
    [(280, 120), (280, 190), (310, 190)],
    [(280, 355), (280, 285), (310, 285)],
    [(250, 355), (310, 355)],
    [(280, 355), (280, 425), (310, 425)],
    [(470, 120), (560, 120)],
    [(470, 50), (800, 50), (800, 94)],
    [(470, 190), (535, 190), (535, 225), (560, 225)],
    [(470, 285), (505, 285), (505, 136), (560, 136)],
    [(470, 355), (505, 355), (505, 285)],
    [(70, 381), (70, 495), (310, 495)],
    [(470, 495), (505, 495), (505, 355)],
    [(470, 425), (630, 425), (630, 251)],
    [(630, 199), (630, 146)],
    [(700, 225), (945, 225), (945, 146)],
    [(700, 120), (740, 120)],
    [(860, 120), (900, 120)],
    [(990, 120), (1010, 120)],
]
NOTE = "Blue: learned. Green: frozen. White: computed. Fine-tuning changes decoder and postfilter."


def text(x: float, y: float, content: str, size: int, *, anchor: str = "middle", weight: str = "normal") -> str:
    style = f'font-family="sans-serif" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="#111111"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{content}</text>'


def box(left: int, centre: int, width: int, fill: str, title: str, subtitle: str) -> str:
    top = centre - BOX_HEIGHT / 2
    middle = left + width / 2
    size = f'x="{left}" y="{top:g}" width="{width}" height="{BOX_HEIGHT}" rx="6"'
    parts = [
        f'<rect {size} fill="{fill}" stroke="{LINE}"/>',
        text(middle, centre - 4, title, 14, weight="bold"),
        text(middle, centre + 14, subtitle, 12),
    ]
    return "".join(parts)


def arrow(points: list[tuple[int, int]]) -> str:
    """A line with a head, which points right, up or down."""
    path = " ".join(f"{x},{y}" for x, y in points)
    (before_x, before_y), (x, y) = points[-2:]
    if x > before_x:
        head = [(x, y), (x - 8, y - 4), (x - 8, y + 4)]
    elif y < before_y:
        head = [(x, y), (x - 4, y + 8), (x + 4, y + 8)]
    else:
        head = [(x, y), (x - 4, y - 8), (x + 4, y - 8)]
    triangle = " ".join(f"{x},{y}" for x, y in head)
    return (
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.3"/>'
        f'<polygon points="{triangle}" fill="{LINE}"/>'
    )


def draw() -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f'<rect x="0" y="0" width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *(arrow(points) for points in ARROWS),
        *(box(*values) for values in BOXES),
        text(20, 555, NOTE, 13, anchor="start"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    output = Path(__file__).with_suffix(".svg")
    output.write_text(draw(), encoding="utf-8")
    print(output)
