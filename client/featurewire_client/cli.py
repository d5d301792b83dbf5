"""`featurewire`: one inference, a generation, and what to know and to do before them."""

import asyncio
import sys

import typer
from featurewire.wire.runtime import tune_malloc

from featurewire_client.commands.calibrate import calibrate
from featurewire_client.commands.inference import generate, infer
from featurewire_client.commands.survey import models, plan

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Runs models split between this machine and a server.",
)
for command in (infer, generate, models, plan, calibrate):
    app.command()(command)


def main() -> None:
    """Exits 2 with one sentence on bad input, 130 on Ctrl-C."""
    tune_malloc()
    try:
        app()
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except Exception as error:
        if not _is_ours(error):
            raise
        print(f"featurewire: {error}", file=sys.stderr)
        sys.exit(2)


def _is_ours(error: Exception) -> bool:
    """Imports late: what raised such an error has imported its class already."""
    from featurewire_client.errors import ClientError

    if isinstance(error, ClientError):
        return True
    from featurewire_codec import CodecError
    from featurewire_models import ModelError

    return isinstance(error, CodecError | ModelError)
