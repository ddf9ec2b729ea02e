"""For all tests."""

from __future__ import annotations

import gc

# The vendors' SDKs and moto are millions of objects that stay. Looked through at Python's usual pace, they take a fourth of
# the tests' time. What is left of a test is found all the same: pytest collects at the end.
gc.set_threshold(50_000, 20, 20)
