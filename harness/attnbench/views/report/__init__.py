"""Reports: pages that open offline, with the charts drawn in, and a Markdown twin beside them."""

from __future__ import annotations

from attnbench.views.report.write import ReportError, write_report

__all__ = ["ReportError", "write_report"]
