"""The number of examples that hypothesis draws, scaled by the profile."""

from __future__ import annotations

from hypothesis import settings

#: The default of hypothesis.
DEFAULT_EXAMPLES = 100


def examples(count: int) -> settings:
    """Draw `count` examples in the profile "thorough", proportionally fewer in others."""
    assert settings.default is not None
    return settings(max_examples=count * settings.default.max_examples // DEFAULT_EXAMPLES)
