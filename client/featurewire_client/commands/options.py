"""The options that several commands share."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from featurewire.wire.limits import CODECS, MAX_COUNT, MAX_SEED


def among(least: int, most: int) -> Callable[[Any], Any]:
    """A check whose sentence, unlike typer's own, names the value, nan too, and both bounds.

    It takes what an option gives: a number, several, or None.
    """

    def check(value: Any) -> Any:
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not least <= one <= most:
                raise typer.BadParameter(f"{one} is not among {least} to {most}")
        return value

    return check


ModelName = Annotated[
    str, typer.Argument(help="Bundled name, local folder or hub id, any with @REVISION.")
]
Address = Annotated[
    str, typer.Option("--server", help="HOST:PORT, or several with commas: the first with room.")
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Split point; auto: as `featurewire plan` finds, at --snr-db whatever the budget.",
        show_default="the server's",
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="generation, classification, segmentation, depth, text-to-image, embedding ...;"
        " `featurewire models` lists a model's.",
        show_default="the first",
    ),
]
Seed = Annotated[
    int,
    typer.Option(callback=among(0, MAX_SEED), help="Of the noise: the same seed, the same result."),
]
Codec = Annotated[str, typer.Option(help=f"How features travel: {', '.join(CODECS)}.")]
in_db = among(-30, 120)
SnrDb = Annotated[
    float,
    typer.Option(
        callback=in_db, help="Quality of the features in dB, -30 to 120: 25 is close, 15 small."
    ),
]
# the codec's own type would import numpy for --help
EffortChoice = Annotated[
    Literal["fast", "trellis"],
    typer.Option(help="trellis: a few percent fewer bytes for more work; featurewire only."),
]
ProfileChoice = Annotated[
    str, typer.Option(help="'server': the server's; 'none': self-describing; or a folder.")
]
Dtype = Annotated[
    str, typer.Option(help="float32, bfloat16 or float16: what the head computes in.")
]
Device = Annotated[
    str, typer.Option(help="Of the head: cpu, cuda, cuda:1 ...; auto: a GPU where there is one.")
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that one request may take.")]
TokenTimeout = Annotated[
    float,
    typer.Option(min=0.001, help="Seconds that the first token, and each next one, may take."),
]
LatencyBudget = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Milliseconds that a request may take, of a generation its first token: the quality"
        " follows the link, from --snr-db at first.",
    ),
]
BytesBudget = Annotated[
    int | None,
    typer.Option(
        min=1, help="Bytes to aim at for all that a request, or a text's prompt, sends, likewise."
    ),
]
LeastSnrDb = Annotated[
    float | None,
    typer.Option(callback=in_db, help="dB that a budget never goes below.", show_default="5"),
]
MostSnrDb = Annotated[
    float | None,
    typer.Option(callback=in_db, help="dB that a budget never goes above.", show_default="30"),
]
MaxTokens = Annotated[
    int, typer.Option(callback=among(1, MAX_COUNT), help="Tokens to generate at most.")
]
TopK = Annotated[
    int,
    typer.Option(
        callback=among(0, MAX_COUNT), help="Draws among so many of the likeliest; 0: all."
    ),
]
Steps = Annotated[int, typer.Option(min=1, help="Steps of text to image.")]
Guidance = Annotated[float, typer.Option(help="Guidance of text to image.")]
MetricsPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Prometheus metrics while it runs; 0: none.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
