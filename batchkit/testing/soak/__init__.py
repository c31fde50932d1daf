"""Whole small runs under faults, in virtual time: ``python -m batchkit.testing.soak --seeds 1000 --fault-rate 0.2``.

Each seed is one history: three batches and what follows from them (retries, a larger model, resends), two processes
that die and freeze, a provider that loses requests and answers, creates late, lists late and breaks off files, strangers
in the same workspace, a wall clock that jumps, and a person who is asked now and then. What the provider billed is
compared with what the engine recorded. The same seed and options play the same history again.
"""

from batchkit.testing.soak.scene import ENGINES, Engine, Outcome, Setup
from batchkit.testing.soak.summary import Summary, play, soak

__all__ = ["ENGINES", "Engine", "Outcome", "Setup", "Summary", "play", "soak"]
