"""Settings all tests share."""

import pytest
from hypothesis import settings

settings.register_profile("ragtune", deadline=None, derandomize=True)  # a busy machine is no failure; CI repeats itself
settings.load_profile("ragtune")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep conversions out of the user's cache, and out of those of other runs of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAGTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
