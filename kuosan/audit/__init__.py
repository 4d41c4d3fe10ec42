"""Audits: what a run could give away about the people in its data."""

from __future__ import annotations

from kuosan.audit.identifiers import KINDS, NOTE, Finding, Scan, scan

__all__ = ["KINDS", "NOTE", "Finding", "Scan", "scan"]
