"""How many examples hypothesis draws: as many parts of 100 as a test says, or fewer in a hurry."""

from __future__ import annotations

from hypothesis import settings

#: What hypothesis draws by itself.
ONE_PART = 100


def examples(count: int) -> settings:
    """Draw so many examples in the profile "thorough", and in proportion in others."""
    assert settings.default is not None
    return settings(max_examples=count * settings.default.max_examples // ONE_PART)
