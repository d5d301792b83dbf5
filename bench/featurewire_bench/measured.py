"""What the codecs' benchmark finds: points of codecs on a source, and what is to be said of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One codec at one setting on one source.

    asked_snr_db: None where a codec has no such knob. snr_db: the mean over channels of the
    variance about the channel mean, over MSE, all tests together; pooled_snr_db: likewise about
    the single mean of all values. bpfp: bits a feature point, everything counted. Speeds: millions
    of features a second of processor time.
    """

    codec: str
    asked_snr_db: float | None
    snr_db: float
    pooled_snr_db: float
    bpfp: float
    metric: float | None
    encode_mfeatures_s: float
    decode_mfeatures_s: float


@dataclass(frozen=True)
class Measured:
    """A source and all its points.

    unsplit: the metric where nothing is coded. pooled_offset_db: what to add to an SNR to have it
    about the single mean. gaussian: (SNR in dB, bits) of the Gaussian figure. calibration_s: how
    long profiles took, None where they came with the model. modes: what they kept, by part.
    """

    group: str
    title: str
    note: str
    metric: str | None
    unsplit: float | None
    features: int
    pooled_offset_db: float
    gaussian: list[tuple[float, float]]
    calibration_s: float | None
    modes: dict[str, str]
    points: list[Point]
