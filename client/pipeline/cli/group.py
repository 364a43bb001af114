"""The command's outermost layer: every error becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from pipeline import errors
from pipeline.cli import exit_codes, terminal


class ErrorReportingGroup(TyperGroup):
    """Commands whose errors are reported; a traceback of our own code is never shown."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except errors.PipelineError as error:
            terminal.report(error)
            raise typer.Exit(exit_codes.exit_code(error)) from None
        except KeyboardInterrupt:
            terminal.fail("interrupted")
            raise typer.Exit(exit_codes.INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(exit_codes.FAILED) from None
        except OSError as error:
            terminal.fail(str(error))
            raise typer.Exit(exit_codes.FAILED) from None
