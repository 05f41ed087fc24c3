"""A service as it is opened: which runs it serves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ragtune.server.service import comparable_id


@pytest.mark.parametrize(("edits", "wanted"), [
    ({}, "i"), ({"added": [], "removed": []}, "i"), ({"added": ["/up/A.pdf"], "removed": []}, ""),
    ({"removed": ["B.pdf"]}, "")])
def test_a_server_starts_again_after_an_upload_with_the_run_of_before(edits: dict[str, Any], wanted: str) -> None:
    assert comparable_id(SimpleNamespace(id="i", manifest={"edits": edits})) == wanted  # type: ignore[arg-type]
