"""batchkit takes a batch LLM job from pilot to promotion over Anthropic's Message Batches API."""

from batchkit import source
from batchkit.audit import Audit, Auditor, Finding
from batchkit.bill import Bill, BillLine
from batchkit.builder import Request, RequestBuilder
from batchkit.clock import Clock, SystemClock
from batchkit.collector import Collected, ResultCollector
from batchkit.comparison import Comparison
from batchkit.contract import Contract
from batchkit.equations import Equations
from batchkit.errors import (
    BatchkitError,
    BudgetPaused,
    ContractError,
    DoubtHeld,
    DuplicateKeys,
    ExecutorError,
    GateNotMet,
    IllegalTransition,
    KeyTypeError,
    LeaseLost,
    MissingField,
    NeedsPerson,
    NotBalanced,
    NotLocked,
    OverBudget,
    ProviderError,
    RowsChanged,
    SpecChanged,
    StoreError,
    StoreHeld,
    TargetError,
    TierError,
    Unresolved,
    UsageError,
)
from batchkit.escalator import Disposition, Escalator
from batchkit.evalset import EvalSet
from batchkit.forecast import Forecast
from batchkit.gate import Gate
from batchkit.grading import Grade
from batchkit.lock import Lock
from batchkit.model import Event, Need, Tally, Usage
from batchkit.money import Budget
from batchkit.people import Review
from batchkit.pilot import Pilot, Version
from batchkit.policy import Policy, escalate, human, pause, quarantine, resend, retry
from batchkit.prices import PRICES, Price, PriceStep, Rates
from batchkit.progress import Progress
from batchkit.promotion import Promoter
from batchkit.prompt import Example, Prompt
from batchkit.reasons import Reason
from batchkit.reconciler import Reconciler, Reconciliation
from batchkit.review import Applied
from batchkit.rows import Row, Rows
from batchkit.rules import Rule, rule
from batchkit.run import Run
from batchkit.sampler import hard_rows, random_rows
from batchkit.scorers import Scorer, exact, ignore, overlap, valid
from batchkit.spec import Spec, StoredSpec
from batchkit.specdiff import SpecDiff
from batchkit.states import BatchState, Outcome, RowState, RunState
from batchkit.storage import Store
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.submitter import ChunkedSubmitter, Sent
from batchkit.targets import Json, Promotion, Target
from batchkit.targets.callable import CallableTarget, Change
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.tier import Tier
from batchkit.validator import Validator
from batchkit.verdict import Verdict
from batchkit.view import RunSummary, RunView, attach, runs, set_cap
from batchkit.workflow import Workflow

__all__ = [
    "PRICES",
    "Applied",
    "Audit",
    "Auditor",
    "BatchState",
    "BatchkitError",
    "Bill",
    "BillLine",
    "Budget",
    "BudgetPaused",
    "CallableTarget",
    "Change",
    "ChunkedSubmitter",
    "Clock",
    "Collected",
    "Comparison",
    "Contract",
    "ContractError",
    "Disposition",
    "DoubtHeld",
    "DuplicateKeys",
    "Equations",
    "Escalator",
    "EvalSet",
    "Event",
    "Example",
    "ExecutorError",
    "Finding",
    "Forecast",
    "Gate",
    "GateNotMet",
    "Grade",
    "IllegalTransition",
    "Json",
    "KeyTypeError",
    "LeaseLost",
    "Lock",
    "MissingField",
    "Need",
    "NeedsPerson",
    "NotBalanced",
    "NotLocked",
    "Outcome",
    "OverBudget",
    "Pilot",
    "Policy",
    "PostgresStore",
    "PostgresTarget",
    "Price",
    "PriceStep",
    "Progress",
    "Promoter",
    "Promotion",
    "Prompt",
    "ProviderError",
    "Rates",
    "Reason",
    "Reconciler",
    "Reconciliation",
    "Request",
    "RequestBuilder",
    "ResultCollector",
    "Review",
    "Row",
    "RowState",
    "Rows",
    "RowsChanged",
    "Rule",
    "Run",
    "RunState",
    "RunSummary",
    "RunView",
    "SQLiteStore",
    "SQLiteTarget",
    "Scorer",
    "Sent",
    "Spec",
    "SpecChanged",
    "SpecDiff",
    "Store",
    "StoreError",
    "StoreHeld",
    "StoredSpec",
    "SystemClock",
    "Tally",
    "Target",
    "TargetError",
    "Tier",
    "TierError",
    "Unresolved",
    "Usage",
    "UsageError",
    "Validator",
    "Verdict",
    "Version",
    "Workflow",
    "attach",
    "escalate",
    "exact",
    "hard_rows",
    "human",
    "ignore",
    "overlap",
    "pause",
    "quarantine",
    "random_rows",
    "resend",
    "retry",
    "rule",
    "runs",
    "set_cap",
    "source",
    "valid",
]
