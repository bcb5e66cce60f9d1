"""Words that are planned and not in this version, each with the nearest thing that is."""

from __future__ import annotations

LATER = {
    "catch": "break MODULE, break FILE:LINE and watch NAME stop the job.",
    "until": "break MODULE and continue, or continue N, go on to a later point.",
    "why": "placements NAME shows how a tensor is placed, shards NAME who holds what.",
    "hang": "status and where show what each rank is in, pause stops those that run.",
    "decisions": "placements NAME shows what the decisions led to.",
    "events": "info breakpoints counts the hits, status shows the iteration.",
    "collectives": "status shows the collective that a rank is in.",
    "check": "inspect NAME shows each rank's fingerprint: equal shards share a row.",
    "diff": "inspect NAME and stats NAME show each rank's numbers side by side.",
    "timeline": "status shows the iteration and its rate.",
    "comm": "status shows the collective that a rank is in.",
    "dump": "attach with --json writes every result as one JSON line.",
    "groups": "mesh shows every device mesh and its ranks.",
    "memory": "modules shows the bytes of every module on each rank.",
    "graph": "modules shows the tree of modules.",
    "profile": "status shows the iteration and its rate.",
    "trace": "break MODULE with commands prints what you want at each hit.",
}
"""Word -> what to use until then."""
