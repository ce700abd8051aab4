"""What the chart renders, as it was looked at: renders/<set>.golden is what renders/<set>.yaml makes of it."""

import hashlib
import os
import re

# A file in a ConfigMap: a block of many lines, or one long word.
LONG = re.compile(r"^(  \S+: )(\|-?\n(?: {4}.*\n){40,}|\S{400,}\n)", re.MULTILINE)


def test_the_render_is_the_one_that_was_looked_at(render, values):
    """A change of the chart is seen in what it renders, before anybody installs it."""
    golden = values.with_suffix(".golden")
    found = LONG.sub(digest, render)
    if os.environ.get("WRITE_RENDERS"):
        golden.write_text(found)

    assert golden.read_text() == found, "`make renders` writes it anew: look at what has changed, and commit it"


def digest(long):
    """What stands for an embedded file, so that a render can be read."""
    return f"{long[1]}<{len(long[2])} characters, sha256 {hashlib.sha256(long[2].encode()).hexdigest()[:16]}>\n"
