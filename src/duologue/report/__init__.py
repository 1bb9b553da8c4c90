"""One HTML page from a run folder: figures with intervals, learning curves, conversations, look-aheads.

The page is a single file that asks for nothing from outside, holds no script, and follows the reader's
light or dark setting.
"""

from __future__ import annotations

from duologue.report.page import write_report

__all__ = ["write_report"]
