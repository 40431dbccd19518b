"""What plans say, for tests. The suite's session cuts them off: use the fixture ``whole_plans``."""

import contextlib
import io
import re


def plan_of(frame):
    """The text of a plan."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        frame.explain()
    return text.getvalue()


def shuffles(frame):
    """The Exchange nodes of a plan that run with it: those below an InMemoryRelation have run."""
    found, kept = [], None  # the depth of the relation whose inside is being read
    for line in plan_of(frame).splitlines():
        depth = len(re.match(r"[\s:+-]*", line).group())
        kept = None if kept is not None and depth <= kept else kept
        if kept is None and line[depth:].startswith("InMemoryRelation"):
            kept = depth
        if kept is None and line[depth:].startswith("Exchange"):
            found.append(line[depth:])
    return found
