"""The command line: ``python -m batchkit VERB STORE [RUN]``. What a verb needs is imported by the verb."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from batchkit.cli.parser import make_parser
from batchkit.cli.telling import serve_simulator
from batchkit.cli.terminal import complain
from batchkit.errors import BatchkitError, BudgetPaused, NeedsPerson
from batchkit.progress import EXIT_BROKEN, EXIT_MONEY, EXIT_PERSON

__all__ = ["main"]

_NOT_UNDERSTOOD = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 done, 75 not yet, 3 a person is needed, 4 money is needed, 1 broken, 2 not understood.

    Args:
        argv: Arguments; None takes the process's own.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["simulate"]:
            return serve_simulator(given[1:])
        parser = make_parser()
        if not given:
            parser.print_help(sys.stderr)
            return _NOT_UNDERSTOOD
        options = parser.parse_args(given)
        code: int = options.verb(options)
        sys.stdout.flush()
    except BatchkitError as error:
        complain(error)
        return exit_code(error)
    except BrokenPipeError:
        # Whoever read us has seen enough. Python flushes once more at exit; there is nothing left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted: nothing was canceled; what runs at the provider is collected next time\n"
        )
        return _INTERRUPTED
    return code


def exit_code(error: BatchkitError) -> int:
    """Give the exit code for an error: whether a person, money or the caller must act."""
    if isinstance(error, BudgetPaused):
        return EXIT_MONEY
    return EXIT_PERSON if isinstance(error, NeedsPerson) else EXIT_BROKEN
