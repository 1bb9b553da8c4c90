"""HTML as values: whatever is not `Html` already is escaped on its way in."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"meta", "br", "hr", "col"})


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """The text as HTML; `Html` stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text, quote=True))


def joined(parts: Iterable[str], separator: str = "") -> Html:
    """The parts side by side, each escaped unless it is `Html`."""
    return Html(escaped(separator).join(escaped(part) for part in parts))


def element(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """`<name …>children</name>`: text among the children is escaped.

    Attributes are written with underscores (`aria_label`, `class_`); None and False leave one out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def paragraph(*children: str, class_: str | None = None) -> Html:
    """A `<p>`."""
    return element("p", *children, class_=class_)


def details(summary: str, *children: str, open_: bool = False, class_: str | None = None) -> Html:
    """A part that opens and closes without script."""
    return element("details", element("summary", summary), *children, open=open_, class_=class_)


def scrolling(label: str, *children: str) -> Html:
    """A region that scrolls sideways by itself, so that the page does not; reachable by keyboard."""
    return element("div", *children, class_="scroll", role="region", tabindex="0", aria_label=label)


def _attribute(key: str, value: str | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
