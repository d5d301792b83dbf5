"""What people use instead of featurewire's codec, each as a pair of inverse functions."""

from .cachegen import cachegen
from .coder import Coder, Method, Shape
from .number_formats import Float16, ScaledIntegers, ShuffledBfloat16
from .scientific import sz3, zfp
from .static_tables import one_table, table_a_channel

__all__ = ["ANCHOR", "BASELINES", "CHANNEL_TABLES", "DT_UFC_NAMES", "Coder", "Method", "Shape"]

DT_UFC_NAMES = ("DT-UFC", "DT-UFC, published k-means", "task-specific hyperprior")
ANCHOR = "uniform + static table"
CHANNEL_TABLES = "a table a channel"

BASELINES = (
    Method("float16", lambda part, snr_db: Float16(), has_knob=False),
    Method("bfloat16 + zstd", lambda part, snr_db: ShuffledBfloat16(), False, "zstandard"),
    Method("int8 + zstd", lambda part, snr_db: ScaledIntegers(8), False, "zstandard"),
    Method("int4 groups + zstd", lambda part, snr_db: ScaledIntegers(4, 64), False, "zstandard"),
    Method(ANCHOR, one_table),
    Method(CHANNEL_TABLES, table_a_channel),
    Method("zfp", zfp, needs="zfpy"),
    Method("SZ3", sz3, needs="pysz"),
    Method("CacheGen style", cachegen),
)
