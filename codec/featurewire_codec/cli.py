"""The command `featurewire-codec`: feature files and bitstreams in, files and figures out."""

import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import print_table, progress, show_version, waiting
from .errors import CodecError, FeatureError

if TYPE_CHECKING:
    from .files import Samples
    from .profile import Profile
    from .quantiser import Effort

app = typer.Typer(
    help="Code a model's intermediate features: .npy and .safetensors files to .fw bitstreams.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """What all commands have."""


Grid = Annotated[
    str | None, typer.Option(help="Rows x columns of the tokens, as 16x16; the rest come before.")
]
ProfileFolder = Annotated[Path | None, typer.Option("--profile", help="A calibrated profile.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
Name = Annotated[str | None, typer.Option(help="The tensor of a .safetensors file.")]
EffortName = Annotated[str, typer.Option("--effort", help="fast, or trellis: some 5 % fewer bits.")]
FeatureFiles = Annotated[list[Path], typer.Argument(help="Feature files.")]


@app.command()
def calibrate(
    files: FeatureFiles,
    out: Annotated[Path, typer.Option(help="The profile's folder.")],
    grid: Grid = None,
    as_json: AsJson = False,
) -> None:
    """Learn a profile from features of one model and split.

    Example: featurewire-codec calibrate train-*.npy --out profiles/layers.4 --grid 16x16
    """
    from .profile import Profile

    if out.exists() and not out.is_dir():
        raise FeatureError(f"--out is {out}, a file: a profile is a folder")
    sources = _read_all(files, None, _parse_grid(grid))
    grids = {source.grid for source in sources}
    if len(grids) > 1:
        raise FeatureError(f"the files have different grids: {sorted(map(str, grids))}")
    arrays = [array for source in sources for array in source.arrays]
    with waiting("calibrating"), warnings.catch_warnings(record=True) as caught:
        profile = Profile.calibrate(arrays, grid=grids.pop())
    for warning in caught:
        print(f"featurewire-codec: {warning.message}", file=sys.stderr)
    profile.save_pretrained(out)
    rates = profile.report["bpfp_by_mode_and_snr_db"]
    if as_json:
        print(json.dumps({"profile": str(out), "digest": profile.digest} | profile.report))
        return
    kept = profile.report["kept"]
    print(f"{out}: {kept}, {profile.channels} channels, digest {profile.digest[:16]}")
    columns = [f"BPFP at {snr_db} dB" for snr_db in next(iter(rates.values()))]
    rows = [[mode, *(f"{rate:.3f}" for rate in by_snr.values())] for mode, by_snr in rates.items()]
    print_table(["mode", *columns], rows)


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(help="A feature file with one sample.")],
    out: Annotated[Path, typer.Option(help="The bitstream, .fw.")],
    profile: ProfileFolder = None,
    snr_db: Annotated[float, typer.Option("--snr-db", help="Quality in dB.")] = 25.0,
    grid: Grid = None,
    effort: EffortName = "fast",
    max_error: Annotated[
        float | None, typer.Option(help="Bound the error of every value, instead of an SNR.")
    ] = None,
    target_bits: Annotated[
        int | None, typer.Option(help="Size in bits to come close to from below, instead.")
    ] = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Encode one feature to a bitstream.

    Example: featurewire-codec encode feature.npy --out feature.fw --snr-db 20
    """
    from .codec import FeatureCodec

    sources = _read_all([file], name, _parse_grid(grid))
    arrays = [array for source in sources for array in source.arrays]
    if len(arrays) != 1:
        raise FeatureError(f"{file} holds {len(arrays)} features, one can be encoded (--name)")
    codec = FeatureCodec(_load_profile(profile))
    data = codec.encode(
        arrays[0],
        snr_db,
        sources[0].grid,
        effort=_parse_effort(effort),
        max_error=max_error,
        target_bits=target_bits,
    )
    out.write_bytes(data)
    bpfp = 8 * len(data) / arrays[0].size
    if as_json:
        print(json.dumps({"out": str(out), "bytes": len(data), "bpfp": bpfp}))
    else:
        print(f"{out}: {len(data)} bytes, {bpfp:.3f} bits a feature")


@app.command()
def decode(
    file: Annotated[Path, typer.Argument(help="A bitstream, .fw.")],
    out: Annotated[Path, typer.Option(help="The feature, .npy or .safetensors.")],
    profile: ProfileFolder = None,
) -> None:
    """Decode a bitstream to a feature file.

    Example: featurewire-codec decode feature.fw --out feature.npy --profile profiles/layers.4
    """
    from .codec import FeatureCodec
    from .files import check_suffix, write_feature

    check_suffix(out)
    feature = FeatureCodec(_load_profile(profile)).decode(file.read_bytes()).numpy()
    write_feature(out, feature)
    print(f"{out}: {feature.shape[0]} tokens x {feature.shape[1]} channels, float32")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A bitstream, .fw.")], as_json: AsJson = False
) -> None:
    """Show a bitstream's header and chunks; no profile is needed.

    Example: featurewire-codec inspect feature.fw --json
    """
    from .inspection import inspect as read
    from .quantiser import step_size

    found = read(file.read_bytes())
    header = found.header
    facts: dict[str, Any] = {
        "tokens": header.tokens,
        "channels": header.channels,
        "grid": header.grid,
        "step": step_size(header.step_exponent),
        "effort": "trellis" if header.trellis else "fast",
        "profile": header.profile.hex() if header.profile else None,
        "energy": header.energy,
        "header_bytes": found.header_bytes,
        "bytes": found.bytes,
        "bpfp": found.bpfp,
    }
    chunks = [
        {"first": c.tokens.start, "tokens": len(c.tokens), "bytes": c.bytes, "plain": c.plain}
        for c in found.chunks
    ]
    if as_json:
        print(json.dumps(facts | {"chunks": chunks}))
        return
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}: {value}")
    print_table(
        ["tokens", "bytes", "by profile"],
        [
            [f"{c.tokens.start}-{c.tokens.stop - 1}", str(c.bytes), "no" if c.plain else "yes"]
            for c in found.chunks
        ],
    )


@app.command()
def evaluate(
    files: FeatureFiles,
    profile: ProfileFolder = None,
    snr_db: Annotated[str, typer.Option("--snr-db", help="SNRs in dB.")] = "10,15,20,25",
    grid: Grid = None,
    effort: EffortName = "fast",
    as_json: AsJson = False,
) -> None:
    """Measure bits a feature, the SNR reached, and speed.

    Example: featurewire-codec evaluate test-*.npy --profile profiles/layers.4 --snr-db 15,25
    """
    from .codec import FeatureCodec
    from .evaluation import evaluate as measure

    try:
        wanted = [float(part) for part in snr_db.split(",")]
    except ValueError:
        raise FeatureError(f"--snr-db is {snr_db!r}, not numbers such as 10,15,20,25") from None
    codec, kind = FeatureCodec(_load_profile(profile)), _parse_effort(effort)
    sources = _read_all(files, None, _parse_grid(grid))
    results = progress(wanted, "evaluating", lambda each: measure(codec, sources, each, kind))
    if as_json:
        print(json.dumps([vars(result) for result in results]))
        return
    digits = 1, 3, 2, 1, 1
    print_table(
        ["asked dB", "BPFP", "SNR dB", "encode Mfeatures/s", "decode Mfeatures/s"],
        [
            [
                f"{figure:.{places}f}"
                for figure, places in zip(vars(r).values(), digits, strict=True)
            ]
            for r in results
        ],
    )


@app.command()
def train(
    files: FeatureFiles,
    out: Annotated[Path | None, typer.Option(help="The tables, .safetensors.")] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Measure each source with the other models' tables."),
    ] = False,
    one_sided: Annotated[
        bool,
        typer.Option(
            "--one-sided", help="Train the one-sided mode's tables, on post-ReLU features."
        ),
    ] = False,
    weights_of: Annotated[
        Path | None,
        typer.Option(help="One-sided tables to predict like; only the tables are trained."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the universal entropy tables on features of several models.

    Each file is a source of its own; give samples on a grid as [samples, rows, columns, channels].
    Files of one model share their names up to the first dot.

    Example: featurewire-codec train bert.3.npy bert.5.npy vae.npy --out tables.safetensors
    """
    from . import train_command

    sources = _read_all(files, None, None)
    if one_sided:
        train_command.train_one_sided(sources, out, leave_one_out, as_json, weights_of)
    elif weights_of is not None:
        raise typer.BadParameter("--weights-of is for --one-sided")
    else:
        train_command.train(sources, out, leave_one_out, as_json)


def main() -> None:
    """Run the command line; bad input exits 2 with one sentence."""
    started = time.perf_counter()
    try:
        code = app(standalone_mode=False)
    except (CodecError, OSError) as error:
        _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _refuse(f"stopped after {time.perf_counter() - started:.0f} s")
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have no public class
            raise
        _refuse(error.format_message())
    else:
        sys.exit(code or 0)


def _refuse(sentence: str) -> None:
    print(f"featurewire-codec: {sentence}", file=sys.stderr)
    sys.exit(2)


def _read_all(
    files: Sequence[Path], name: str | None, grid: tuple[int, int] | None
) -> "list[Samples]":
    from .files import read_samples

    return [samples for file in files for samples in read_samples(file, name, grid)]


def _load_profile(folder: Path | None) -> "Profile | None":
    from .profile import Profile

    return Profile.from_pretrained(folder) if folder else None


def _parse_grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise FeatureError(f"--grid is {text!r}, not rows x columns such as 16x16")
    return int(rows), int(columns)


def _parse_effort(text: str) -> "Effort":
    from .quantiser import EFFORTS

    for effort in EFFORTS:
        if effort == text:
            return effort
    raise FeatureError(f"--effort is {text!r}, not {' or '.join(EFFORTS)}")


if __name__ == "__main__":
    main()
