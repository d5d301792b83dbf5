"""`featurewire`: one inference, a generation, and what to know and to do before them."""

import typer
from featurewire.wire.options import Version
from featurewire.wire.runtime import run_command

from featurewire_client.commands.calibrate import calibrate
from featurewire_client.commands.evaluate import evaluate
from featurewire_client.commands.inference import generate, infer
from featurewire_client.commands.survey import models, plan

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Runs models split between this machine and a server.",
)


@app.callback()
def options(version: Version = False) -> None:
    """What all commands have."""


for command in (infer, generate, evaluate, models, plan, calibrate):
    app.command()(command)


def main() -> None:
    """Exits 2 with one sentence on bad input, 130 on Ctrl-C."""
    errors = (
        "featurewire_client.errors:ClientError",
        "featurewire_codec.errors:CodecError",
        "featurewire_models.errors:ModelError",
    )
    run_command("featurewire", app, errors)
