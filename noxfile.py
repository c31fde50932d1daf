"""Each session answers one question; `nox -l` lists them."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "typing", "layers"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")

ROOT = Path(__file__).parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def group(name: str) -> list[str]:
    """The requirements of a dependency group, spelled out: an old pip knows no `--group`."""
    return list(nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), name))


def install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".", *(requirement for name in groups for requirement in group(name)))


def workers(session: nox.Session) -> list[str]:
    """Two test workers, unless the caller chose a number."""
    return [] if any(arg.startswith(("-n", "--numprocesses")) for arg in session.posargs) else ["-n", "2"]


@nox.session
def tests(session: nox.Session) -> None:
    """Does it behave as its tests say? Unit, property, contract, fault and integration tests."""
    install(session, "tests")
    profile = os.environ.get("HYPOTHESIS_PROFILE", "ci")
    session.run("pytest", *workers(session), *session.posargs, env={"HYPOTHESIS_PROFILE": profile})


@nox.session
def postgres16(session: nox.Session) -> None:
    """Does all that concerns a server hold on PostgreSQL 16, too? The tests alone ask an 18."""
    install(session, "tests")
    older = {
        "BATCHKIT_TEST_POSTGRES_VERSION": "16",
        "HYPOTHESIS_PROFILE": os.environ.get("HYPOTHESIS_PROFILE", "ci"),
    }
    wanted = "(postgres or columns or overlay) and not docs"
    session.run("pytest", *workers(session), "-k", wanted, *session.posargs, env=older)


@nox.session
def demo(session: nox.Session) -> None:
    """Does the whole job run, from raw rows to a promoted catalog? On a local stand-in for the API."""
    session.install("-e", ".[rich]")
    session.run("python", "-m", "batchkit", "demo", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """Does the demo survive a kill at any moment? ``-- 50`` kills and restarts it fifty times."""
    session.install("-e", ".")
    session.run("python", "tests/support/kills.py", *session.posargs)


@nox.session
def fault(session: nox.Session) -> None:
    """Does a run survive at every operation? All of them, four ways each; four processes under signals for a minute.

    It takes hours, says in the end how many it took, and may be taken in pieces: ``-- -k "nth and memory"``.
    """
    install(session, "tests")
    everything = {"BATCHKIT_SWEEP_STEP": "1", "BATCHKIT_MP_SECONDS": "60"}
    # One test is a whole sweep here.
    session.run(
        "pytest", *workers(session), "--timeout", "14400", "tests/fault", *session.posargs, env=everything
    )


@nox.session
def engines(session: nox.Session) -> None:
    """Is anything lost or paid twice when an engine loses workers? Dask on PostgreSQL; two are killed as they settle."""
    install(session, "tests", "engines")
    given = session.posargs or ["--rows", "40000", "--batch-rows", "10000", "--engine", "dask", "--kill", "2"]
    session.run("python", "benchmarks/workers.py", *given)


@nox.session
def contract(session: nox.Session) -> None:
    """Does every store, and every target, keep every promise, at full size? Prints stores × tests."""
    install(session, "tests")
    session.run("python", "tests/support/contracts.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Is nothing lost or paid twice over 10,000 histories at 5 % and 50 % faults? ``-- --seeds 1000`` takes fewer."""
    session.install("-e", ".")
    given = session.posargs or [
        "--seeds", "10000", "--fault-rate", "0.05", "--fault-rate", "0.5", "--jobs", str(os.cpu_count() or 1),
    ]  # fmt: skip
    session.run("python", "-m", "batchkit.testing.soak", *given)


@nox.session
def mutants(session: nox.Session) -> None:
    """Would the suite notice? Each mutant of the submission protocol, and the test that kills it."""
    install(session, "tests")
    session.run("python", "tests/support/mutants.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Is the code in the house's form?"""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Are the types right, and is every public name typed?"""
    install(session, "typing")
    session.run("mypy")
    session.run("pyright")
    report = session.run(
        "pyright", "--verifytypes", "batchkit", "--ignoreexternal", "--outputjson",
        silent=True, success_codes=[0, 1],
    )  # fmt: skip
    completeness = json.loads(str(report))["typeCompleteness"]
    score, counts = completeness["completenessScore"], completeness["exportedSymbolCounts"]
    session.log(f"{score:.1%} of the public names are typed ({counts})")
    if score < 1:
        for symbol in completeness["symbols"]:
            if symbol["isExported"] and not symbol["isTypeKnown"]:
                messages = [d["message"] for d in symbol["diagnostics"]]
                session.warn(f"{symbol['name']}: {'; '.join(messages) or 'type not known'}")
        session.error("public names without a full type")


@nox.session
def layers(session: nox.Session) -> None:
    """Does every module import from below its own layer only?"""
    install(session, "layers")
    session.run("lint-imports", "--no-cache")


@nox.session
def docs(session: nox.Session) -> None:
    """Does the documentation build, with no broken link or reference?"""
    install(session, "docs")
    session.run("zensical", "build", "--strict", "--clean")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast is it, and in how much memory? Not part of CI: only ratios inside one run mean anything."""
    install(session, "bench")
    if session.posargs:
        session.run("python", *session.posargs)
        return
    session.run("python", "benchmarks/compare.py")
    session.run("python", "benchmarks/scale.py")
    session.run("python", "benchmarks/phases.py")


@nox.session
def coverage(session: nox.Session) -> None:
    """Which branches has no test taken? At least 95 % must be, child processes included."""
    install(session, "coverage")
    session.run("coverage", "erase")
    try:
        session.run("coverage", "run", "-m", "pytest", *workers(session), *session.posargs)
    finally:
        session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(venv_backend="none")
def model(session: nox.Session) -> None:
    """Is the submission protocol right? Its model, checked exhaustively with spin, and its mutants refuted."""
    wanted = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if wanted:
        if shutil.which("apt-get") is None:
            session.error(f"install {' and '.join(wanted)} first")
        session.run("apt-get", "update", external=True, silent=True)
        session.run(
            "apt-get", "install", "--yes", "--no-install-recommends", *wanted, external=True, silent=True
        )
    session.run(sys.executable, "tests/model/check.py", *session.posargs, external=True)


def oldest(session: nox.Session) -> list[str]:
    """Arguments that hold the runtime dependencies at the oldest versions pyproject.toml allows."""
    session.install("uv")
    pins = Path(session.create_tmp()) / "lowest.txt"
    session.run(
        "uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--only-binary", ":all:",
        "--python", str(Path(session.virtualenv.bin) / "python"), "--no-header", "--no-annotate",
        "--output-file", str(pins), "pyproject.toml",
    )  # fmt: skip
    return ["--constraint", str(pins)]


@nox.session
def lowest(session: nox.Session) -> None:
    """Do the lower bounds in pyproject.toml hold? The suite, on the oldest versions allowed."""
    session.install("-e", ".", *group("tests"), *oldest(session))
    session.run("pytest", *workers(session), *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["lowest", "newest"])
def matrix(session: nox.Session, versions: str) -> None:
    """Does it hold on every Python, with the oldest and with the newest dependencies allowed?"""
    constraint = oldest(session) if versions == "lowest" else ["--upgrade"]
    session.install("-e", ".", *group("tests"), *constraint)
    session.run("pytest", *workers(session), *session.posargs)


@functools.cache
def distributions() -> tuple[Path, Path]:
    """Where this invocation's wheel and unpacked sdist stand: outside the checkout, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="batchkit-dist-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "dist", folder / "source"


def built(session: nox.Session) -> tuple[Path, Path]:
    """The wheel, built from the sdist, and the sdist unpacked with the library taken out."""
    dist, source = distributions()
    if not dist.exists():
        session.install("build")
        session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT), silent=True)
        [sdist] = dist.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(source, filter="data") if hasattr(
                tarfile, "data_filter"
            ) else archive.extractall(source)
        [tree] = source.iterdir()
        shutil.rmtree(tree / "batchkit")
    [wheel] = dist.glob("*.whl")
    [tree] = source.iterdir()
    return wheel, tree


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Does the built wheel pass its tests with the source folder out of the way, on each Python?"""
    package, tree = built(session)
    session.install(str(package), *group("tests"))
    session.install("--force-reinstall", "--no-deps", str(package))
    session.chdir(tree)
    # -P keeps the current folder off the path; 3.10 has only the wider -I.
    isolated = "-I" if session.python == "3.10" else "-P"
    session.run(
        "python", isolated, "-c",
        "import batchkit, sys; print(sys.version); assert 'site-packages' in batchkit.__file__, batchkit.__file__",
    )  # fmt: skip
    profile = os.environ.get("HYPOTHESIS_PROFILE", "dev")
    session.run(
        "python", isolated, "-m", "pytest", *workers(session), *session.posargs,
        env={"HYPOTHESIS_PROFILE": profile},
    )  # fmt: skip
