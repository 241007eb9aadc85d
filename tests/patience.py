"""How long a test waits for what should end or appear by itself.

No measure of speed: a test that waits passes on a machine that is slow or busy, and fails only
where something hangs. A server is waited for as long as its process lives.
"""

from __future__ import annotations

HANGS = 600.0
"""Seconds after which something hangs: many times what the slowest command takes, and so far below
the time a whole run of the tests may take that it ends by naming the test that hung."""
