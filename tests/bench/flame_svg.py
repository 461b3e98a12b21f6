"""A flame graph as SVG: boxes as wide as their share of samples, callers below what they call."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

WIDTH, ROW, MARGIN = 1200, 18, 24
COLOURS = ("#e8a33d", "#e07b39", "#d9534f", "#c9a227", "#e6b566")
NARROWEST = 0.3  # pixels: what is narrower is not drawn
_LETTER = 6.4  # pixels


@dataclass
class Node:
    """A function, reached by one path, with the samples in it and in all it calls."""

    name: str
    samples: int = 0
    calls: dict[str, Node] = field(default_factory=dict)

    def add(self, path: tuple[str, ...], samples: int) -> None:
        """Count samples of a path below this one."""
        self.samples += samples
        if path:
            self.calls.setdefault(path[0], Node(path[0])).add(path[1:], samples)

    @property
    def depth(self) -> int:
        """Of the deepest path from here."""
        return 1 + max((call.depth for call in self.calls.values()), default=0)


def draw(paths: Mapping[tuple[str, ...], int], title: str) -> str:
    """The picture.

    Args:
        paths: Path of functions, outermost first → samples.
        title: Above the graph; its first box.
    """
    root = Node(title)
    for path, samples in paths.items():
        root.add(path, samples)
    height = root.depth * ROW + MARGIN
    boxes = "\n".join(_boxes(root, 0.0, WIDTH / max(1, root.samples), height - ROW, root.samples))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="monospace" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="#fff8ee"/>\n{boxes}\n</svg>\n'
    )


def _boxes(node: Node, left: float, scale: float, top: float, total: int) -> Iterator[str]:
    width = node.samples * scale
    if width < NARROWEST:
        return
    label = html.escape(node.name)
    shown = html.escape(node.name[: int((width - 4) / _LETTER)]) if width > 3 * _LETTER else ""
    colour = COLOURS[sum(map(ord, node.name)) % len(COLOURS)]
    share = 100 * node.samples / total
    yield (
        f'<g><title>{label}: {share:.1f} %</title><rect x="{left:.1f}" y="{top}" '
        f'width="{max(width - 0.5, 0.2):.1f}" height="{ROW - 1}" fill="{colour}"/>'
        f'<text x="{left + 3:.1f}" y="{top + 13}">{shown}</text></g>'
    )
    for call in sorted(node.calls.values(), key=lambda call: call.name):
        yield from _boxes(call, left, scale, top - ROW, total)
        left += call.samples * scale
