"""What every target must do, as tests to inherit: one test per sentence of the Target Protocol.

::

    class TestMyTarget(TargetContract):
        @pytest.fixture
        def catalog(self, tmp_path):
            return MyCatalog(tmp_path)
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"batchkit.testing.target_contract.{part}"
        for part in (
            *("checking", "crashes", "inserting", "precedence"),
            *("repeating", "tables", "undoing", "writing"),
        )
    )
)

from batchkit.testing.target_contract.checking import CheckContract  # noqa: E402 (asserts are rewritten at import)
from batchkit.testing.target_contract.crashes import CrashContract  # noqa: E402
from batchkit.testing.target_contract.inserting import InsertContract  # noqa: E402
from batchkit.testing.target_contract.precedence import PrecedenceContract  # noqa: E402
from batchkit.testing.target_contract.repeating import RepeatContract  # noqa: E402
from batchkit.testing.target_contract.tables import TableContract  # noqa: E402
from batchkit.testing.target_contract.undoing import RollbackContract  # noqa: E402
from batchkit.testing.target_contract.writing import WriteContract  # noqa: E402

__all__ = [
    "CheckContract",
    "CrashContract",
    "EveryTargetContract",
    "InsertContract",
    "PrecedenceContract",
    "RepeatContract",
    "RollbackContract",
    "TableContract",
    "TargetContract",
    "WriteContract",
]


class EveryTargetContract(CheckContract, WriteContract, PrecedenceContract, RepeatContract, RollbackContract):
    """What a target promises that writes through somebody else's code, such as `batchkit.CallableTarget`.

    Inherit, and give a ``catalog`` fixture.
    """


class TargetContract(EveryTargetContract, TableContract, InsertContract, CrashContract):
    """What a target on a table of a database promises, whose promotions are transactions.

    Inherit, and give a ``catalog`` fixture.
    """
