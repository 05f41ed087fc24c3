"""What an uploaded file must be before it is kept, beyond what its name and its first bytes say."""

from __future__ import annotations

from ragtune.recipe.schema import Server
from ragtune.server.errors import Rejected


def check_upload(name: str, data: bytes, settings: Server) -> None:
    """Raise Rejected for a file that is not taken: 413 for one that is too large."""
    if len(data) > settings.max_upload_mb << 20:
        raise Rejected(413, f"'{name[:200]}' has {len(data):,} bytes, at most {settings.max_upload_mb} MiB are taken. Send "
                            "a smaller file, or raise server.max_upload_mb.", code="file_too_large")
