"""A profile reads back as it was written, and a stranger's file is only data."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.store.profile import PROFILE, Profile, ProfileError, read_profile, write_profile

if TYPE_CHECKING:
    from pathlib import Path

CELL: dict[str, Any] = {
    "implementation": "mine/one", "case": {}, "case_id": "c", "label": "forward", "device": "cpu", "threads": 2,
    "status": "ok", "median_ns": 100.0, "phases": [{"phase": "qk", "ns": 60.0, "low_ns": 50.0, "high_ns": 70.0}],
    "lines": [{"file": "f", "line": 1, "function": "g", "text": "", "phase": "qk", "ns": 1.0, "below_ns": 2.0}],
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "created_utc": "now", "attnbench": "0", "command": "attnbench profile", "environment": {}, "peaks": {},
    "cells": [CELL],
}  # fmt: skip


def test_a_profile_reads_as_it_was_written_from_its_file_and_its_folder(tmp_path: Path) -> None:
    profile = Profile.model_validate(WHOLE)
    write_profile(profile, tmp_path)
    assert read_profile(tmp_path) == read_profile(tmp_path / PROFILE) == profile


def changed(path: str, value: object) -> str:
    """Return the profile with one value changed, as JSON."""
    copy = json.loads(json.dumps(WHOLE))
    *way, last = path.split(".")
    place = copy
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return json.dumps(copy)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "run"), ("version", 2), ("cells.0.threads", 0), ("cells.0.median_ns", 0), ("cells.0.median_ns", 1e300),
        ("cells.0.phases.0.ns", 0), ("cells.0.phases.0.ns", float("nan")), ("cells.0.phases.0.phase", "magic"),
        ("cells.0.phases.0.floor_ns", 5e-324), ("cells.0.lines.0.line", 10**400), ("cells.0.samples", -1),
        ("cells.0.more", 1), ("cells.0.lines", [CELL["lines"][0]] * 20_001),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_with_their_place(tmp_path: Path, path: str, value: object) -> None:
    (tmp_path / PROFILE).write_text(changed(path, value))
    with pytest.raises(ProfileError, match=path.rsplit(".", maxsplit=1)[-1] if path != "kind" else "kind"):
        read_profile(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"kind": "header"}'])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / PROFILE).write_text(text)
    with pytest.raises(ProfileError, match="is no profile"):
        read_profile(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        read_profile(tmp_path / "nowhere.json")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PROFILE)
    with pytest.raises(ProfileError, match="it is not a regular file"):
        read_profile(tmp_path)
