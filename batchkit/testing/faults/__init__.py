"""Faults for tests: wrappers around a store, a client's requests, a provider and a clock.

Nothing in the library knows of them. A fault that must not pay twice or lose a row is put *around* the real thing.
"""

from batchkit.testing.faults.clocks import JumpyClock
from batchkit.testing.faults.midway import Moments, midway
from batchkit.testing.faults.moments import Chances, Faults, Killed, Nth, Way, die_in_process, sigkill
from batchkit.testing.faults.provider import Create, UnreliableAPI
from batchkit.testing.faults.schedule import FAULTS_OF, Fault, FaultSchedule
from batchkit.testing.faults.stores import faulty_store
from batchkit.testing.faults.wire import FaultyAPI

__all__ = [
    "FAULTS_OF",
    "Chances",
    "Create",
    "Fault",
    "FaultSchedule",
    "Faults",
    "FaultyAPI",
    "JumpyClock",
    "Killed",
    "Moments",
    "Nth",
    "UnreliableAPI",
    "Way",
    "die_in_process",
    "faulty_store",
    "midway",
    "sigkill",
]
