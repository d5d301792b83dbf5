"""The codecs' results as Markdown: measurements in, tables out, worse figures included."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featurewire_bench.baselines import ANCHOR, CHANNEL_TABLES, DT_UFC_NAMES
from featurewire_bench.curves import Curve, bd_rate, bits_at, curve, snr_at
from featurewire_bench.errors import SampleError
from featurewire_bench.measured import Measured, Point
from featurewire_bench.own_codec import OURS, TRELLIS

REFERENCE_DB = 15.0
SHOWN_DB = (10.0, 15.0, 20.0, 25.0)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

METHOD_NOTE = """\
BPFP: bits a feature point, everything counted that a stream needs; profiles, tables and shapes are
known on both sides. SNR: the mean over channels of the variance about the channel mean, over the
MSE, all tests together. Bits at an SNR: PCHIP of the logarithm of the rate between measured points;
a dash where a codec does not reach it. BD-rate: against "uniform + static table", PCHIP of the
logarithm of the rate over the SNRs that both reach. Gaussian figure: reverse water-filling over the
tests' own covariance. Speeds: millions of features a second of processor time, the fastest of up
to three passes at the point nearest to 15 dB, one sample a call."""


def codec_names(results: Iterable[Measured]) -> list[str]:
    """The codecs in the order in which they were measured."""
    return list(dict.fromkeys(point.codec for measured in results for point in measured.points))


def codec_curve(measured: Measured, codec: str) -> Curve:
    """A codec's rate-distortion curve on one source."""
    return curve((p.snr_db, p.bpfp) for p in measured.points if p.codec == codec)


def group_bits(results: Sequence[Measured], codec: str, snr_db: float) -> float | None:
    """The mean over sources of the bits at an SNR; None when one of them has none."""
    bits = [bits_at(codec_curve(measured, codec), snr_db) for measured in results]
    known = [value for value in bits if value is not None]
    return mean(known) if known and len(known) == len(bits) else None


def group_gaussian(results: Sequence[Measured], snr_db: float) -> float:
    """The mean over sources of the Gaussian figure, between whole decibels on a straight line."""
    figures = []
    for measured in results:
        below = [pair for pair in measured.gaussian if pair[0] <= snr_db]
        above = [pair for pair in measured.gaussian if pair[0] >= snr_db]
        (left, low), (right, high) = below[-1], above[0]
        share = (snr_db - left) / (right - left) if right > left else 0.0
        figures.append(low + share * (high - low))
    return mean(figures)


def report(conditions: dict[str, Any], notes: Sequence[str], results: Sequence[Measured]) -> str:
    """All tables."""
    rivals = against_dt_ufc(results)
    libraries = ", ".join(f"{k} {v}" for k, v in conditions["libraries"].items() if v)
    parts = [
        f"Measured with `{conditions['command']}` on {conditions['cores']} cores of "
        f"{conditions['processor']}, one thread, Python {conditions['python']}, {libraries}.",
        METHOD_NOTE,
        *(f"Note: {note}." for note in notes),
        f"### Bits a feature point at {REFERENCE_DB:g} dB",
        overview(results),
        "### Against the yardsticks",
        yardsticks(results),
        "### What is reached of what is asked",
        reached(results),
        *([] if not rivals else ["### Against DT-UFC, at each of its own points", rivals]),
        *(detail(measured) for measured in results),
    ]
    return "\n\n".join(parts) + "\n"


def overview(results: Sequence[Measured]) -> str:
    """A row a codec, a column a group (its sources' mean); and the Gaussian figure."""
    groups = _groups(results)
    rows = [
        [codec, *(_bits(group_bits(group, codec, REFERENCE_DB)) for group in groups.values())]
        for codec in codec_names(results)
    ]
    rows = [row for row in rows if set(row[1:]) != {"-"}]
    figures = [_bits(group_gaussian(group, REFERENCE_DB)) for group in groups.values()]
    return _table(["codec", *groups], [*rows, ["Gaussian figure", *figures]])


def yardsticks(results: Sequence[Measured]) -> str:
    """What is asked of the codec: bits over the Gaussian figure, and less than tables take."""
    rows = []
    for name, group in _groups(results).items():
        pooled = mean(measured.pooled_offset_db for measured in group)
        for codec in (OURS, TRELLIS):
            ours = group_bits(group, codec, REFERENCE_DB)
            if ours is None:
                continue
            # The same stream has a higher SNR about the single mean.
            alike = group_bits(group, codec, REFERENCE_DB - pooled)
            figure = group_gaussian(group, REFERENCE_DB)
            row = [name, codec, _bits(ours), _bits(alike), f"{pooled:+.2f}"]
            row += [f"{ours - figure:+.2f}"]
            row += [_percent(ours, group_bits(group, ANCHOR, REFERENCE_DB))]
            row += [_percent(ours, group_bits(group, CHANNEL_TABLES, REFERENCE_DB))]
            rows.append(row)
    header = ["source", "codec", "bits at 15 dB", "bits at 15 dB, pooled", "pooled SNR, dB more"]
    header += ["over Gaussian", "against uniform + table", "against a table a channel"]
    return _table(header, rows)


def reached(results: Sequence[Measured]) -> str:
    """The SNR that the knob gives less the one asked for, in dB, its sources' mean."""
    rows = []
    for name, group in _groups(results).items():
        for codec in (OURS, TRELLIS):
            row = [name, codec]
            for asked in SHOWN_DB:
                points = [p for m in group for p in m.points if (p.codec, p.asked_snr_db) ==
                          (codec, asked)]  # fmt: skip
                row.append(f"{mean(p.snr_db for p in points) - asked:+.2f}" if points else "-")
            rows.append(row)
    return _table(["source", "codec", *(f"{snr_db:g} dB" for snr_db in SHOWN_DB)], rows)


def against_dt_ufc(results: Sequence[Measured]) -> str:
    """Our bits at its SNR and our SNR at its bits, for each point of its; empty without any.

    Then the means over all points of each of its forms; and the Gaussian figure's bits at its SNR,
    below which no transform and scalar quantiser of one covariance gets.
    """
    rows, changes = [], dict[str, list[list[float | None]]]()
    for measured in results:
        for point in measured.points:
            if point.codec not in DT_UFC_NAMES:
                continue
            row = [measured.title, point.codec, f"{point.bpfp:.2f}", f"{point.snr_db:.1f}"]
            change: list[float | None] = []
            for codec in (OURS, TRELLIS):
                line = codec_curve(measured, codec)
                bits, snr_db = bits_at(line, point.snr_db), snr_at(line, point.bpfp)
                change.append(None if bits is None else 100 * (bits / point.bpfp - 1))
                change.append(None if snr_db is None else snr_db - point.snr_db)
            figure = bits_at(curve(pair for pair in measured.gaussian if pair[1] > 0), point.snr_db)
            change.append(None if figure is None else 100 * (figure / point.bpfp - 1))
            changes.setdefault(point.codec, []).append(change)
            rows.append([*row, *_changes(change)])
    for method, many in changes.items():
        columns = zip(*many, strict=True)
        known = [[value for value in column if value is not None] for column in columns]
        means = [mean(column) if column else None for column in known]
        rows.append(["mean of all points", method, "", "", *_changes(means)])
    header = ["source", "method", "its bits", "its SNR, dB"]
    for codec in (OURS, TRELLIS):
        header += [f"{codec}: bits at its SNR", "dB at its bits"]
    header.append("Gaussian figure: bits at its SNR")
    return _table(header, rows) if rows else ""


def detail(measured: Measured) -> str:
    """One source: every codec's bits at the SNRs shown, and its speed."""
    anchor = codec_curve(measured, ANCHOR)
    metric = measured.metric or "no task metric"
    rows = []
    for codec in codec_names([measured]):
        points = [point for point in measured.points if point.codec == codec]
        nearest = min(points, key=lambda point: abs(point.snr_db - REFERENCE_DB))
        line = codec_curve(measured, codec)
        change = bd_rate(line, anchor) if codec != ANCHOR else None
        rows.append(
            [
                codec,
                *(_bits(bits_at(line, snr_db)) for snr_db in SHOWN_DB),
                f"{change:+.1f} %" if change is not None else "-",
                f"{nearest.bpfp:.2f} / {nearest.snr_db:.1f} / {_metric(nearest)}",
                f"{_speed(nearest.encode_mfeatures_s)} / {_speed(nearest.decode_mfeatures_s)}",
            ]
        )
    header = ["codec", *(f"{snr_db:g} dB" for snr_db in SHOWN_DB), "BD-rate"]
    header += [f"nearest 15 dB: bits / SNR / {metric.replace(', ', ' ')}", "encode / decode, M/s"]
    facts = [measured.note, f"{measured.features / 1e6:.2f} M features tested"]
    if measured.unsplit is not None:
        facts.append(f"{metric} uncoded: {measured.unsplit:.4g}")
    if measured.calibration_s is not None:
        facts.append(f"calibrated in {measured.calibration_s:.0f} s")
    modes = sorted(set(measured.modes.values()))
    facts.append(f"mode: {', '.join(modes)}")
    return "\n\n".join([f"### {measured.title}", "; ".join(facts) + ".", _table(header, rows)])


def replace_measured(path: Path, measured: str) -> None:
    """Put new tables between the two markers of a Markdown file, leaving all else.

    Raises:
        SampleError: the file has no such markers.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SampleError(f"{path} has no lines {BEGIN} and {END} to put tables between")
    path.write_text(f"{before}{BEGIN}\n\n{measured}\n{END}{after}", encoding="utf-8")


def _groups(results: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Sources that make one column; each bundled model's task is one of its own."""
    groups: dict[str, list[Measured]] = {}
    for measured in results:
        name = measured.title if measured.group == "bundled" else measured.group
        groups.setdefault(name, []).append(measured)
    return groups


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def _changes(values: Sequence[float | None]) -> list[str]:
    """Percents and decibels by turns."""
    return [
        "-" if value is None else f"{value:+.1f}" + ("" if place % 2 else " %")
        for place, value in enumerate(values)
    ]


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(ours: float, other: float | None) -> str:
    return "-" if other is None else f"{100 * (ours / other - 1):+.1f} %"


def _metric(point: Point) -> str:
    return "-" if point.metric is None else f"{point.metric:.4g}"


def _speed(mfeatures_s: float) -> str:
    return f"{mfeatures_s:.3g}"
