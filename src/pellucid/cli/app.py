"""The application: its commands, and how an error becomes one line on stderr and an exit code.

Exit codes: 0 done, 1 failure, 2 bad use or input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from pellucid.cli.check import check
from pellucid.cli.compare import compare
from pellucid.cli.convert import convert
from pellucid.cli.explain import explain
from pellucid.cli.printing import complain
from pellucid.cli.tables import composites, methods, rules
from pellucid.errors import InputError, PellucidError

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="pellucid",
    help="Explains trained neural networks: where a decision comes from, with an audit of every explanation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (explain, compare, check, convert, methods, rules, composites):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from pellucid import __version__

        typer.echo(f"pellucid {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Explains trained neural networks: where a decision comes from, with an audit of every explanation."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process.

    Args:
        arguments: the words after the program's name; the process's own when left out.

    Raises:
        SystemExit: always, with the exit code.
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="pellucid", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.TyperException as error:
        return _refuse_use(error)
    except InputError as error:
        complain(str(error))
        return BAD_INPUT
    except PellucidError as error:
        complain(str(error))
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`). Python flushes stdout once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    return code if isinstance(code, int) else 0


def _refuse_use(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if not message:  # no command at all: typer has printed the help
        return error.exit_code
    path = context.command_path if context is not None else "pellucid"
    complain(f"{message} See '{path} --help'.")
    return error.exit_code
