"""What holds for every test."""

from __future__ import annotations

import hypothesis

pytest_plugins = ["tests.stores"]

# A busy machine takes longer: how long an example takes says nothing about what is tested.
hypothesis.settings.register_profile("dcsp", deadline=None)
hypothesis.settings.load_profile("dcsp")
