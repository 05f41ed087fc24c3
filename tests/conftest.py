"""Settings all tests share."""

from hypothesis import settings

settings.register_profile("ragtune", deadline=None, derandomize=True)  # a busy machine is no failure; CI repeats itself
settings.load_profile("ragtune")
