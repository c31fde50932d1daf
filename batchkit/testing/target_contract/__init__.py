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
        for part in ("checking", "crashes", "writing", "precedence", "repeating", "undoing")
    )
)

from batchkit.testing.target_contract.checking import CheckContract  # noqa: E402 (asserts are rewritten at import)
from batchkit.testing.target_contract.crashes import CrashContract  # noqa: E402
from batchkit.testing.target_contract.precedence import PrecedenceContract  # noqa: E402
from batchkit.testing.target_contract.repeating import RepeatContract  # noqa: E402
from batchkit.testing.target_contract.undoing import RollbackContract  # noqa: E402
from batchkit.testing.target_contract.writing import WriteContract  # noqa: E402

__all__ = [
    "CheckContract",
    "CrashContract",
    "PrecedenceContract",
    "RepeatContract",
    "RollbackContract",
    "TargetContract",
    "WriteContract",
]


class TargetContract(
    CheckContract, WriteContract, PrecedenceContract, RepeatContract, RollbackContract, CrashContract
):
    """Inherit, and give a ``catalog`` fixture."""
