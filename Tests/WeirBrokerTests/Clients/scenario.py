"""What the scripts beside this one share: `script.py BOOTSTRAP SCENARIO` runs one function, and fails with what it expected."""

import asyncio
import inspect
import sys
import time
import uuid

DEADLINE_SECONDS = 30


def unique(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


def expect(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r} instead of {expected!r}")


def wait_until(condition, what):
    """Calls a function until it returns something true, which it returns."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


def run(scenarios):
    bootstrap, name = sys.argv[1:]
    result = scenarios[name](bootstrap)
    if inspect.iscoroutine(result):
        asyncio.run(asyncio.wait_for(result, 2 * DEADLINE_SECONDS))
    print(f"passed: {name}")
