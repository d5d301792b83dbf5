"""Names, sizes and times of the wire, the same on both sides, and gRPC options made from them."""

# How features may travel: `featurewire.wire.coder` says what each means.
CODECS = ("featurewire", "dt-ufc", "float16", "float32")
# Those with a quality knob, in dB.
TUNABLE_CODECS = ("featurewire", "dt-ufc")

# 6: a Begin may come with the first Chunk, an Account with the last answer.
PROTOCOL_MIN = 6
PROTOCOL_MAX = 6

# A message is one chunk and its framing; gRPC refuses a larger one before it is read.
MAX_CHUNK_BYTES = 128 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# A piece of an output: even 0.05 Mbit/s bring one before the server is taken for a silent one.
MAX_OUTPUT_CHUNK_BYTES = 64 * 1024

# Chunks under way without an acknowledgement: 4 MiB keeps 300 Mbit/s busy over 100 ms.
MAX_CHUNKS_IN_FLIGHT = 32

# One request: 2^26 points are 256 MiB as float32, what a peer can make us allocate.
MAX_FEATURES = 1 << 26
MAX_UNCODED_BYTES = 2 * 1024 * 1024
MAX_TENSORS = 64
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48  # of a shape, zeros taken for ones: torch holds no strides of more
# Of a generation: the text is searched for them after every token.
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024

# What the .proto's counts of tokens hold, and what a seed of noise may be: that of an image travels
# as int64.
MAX_COUNT = 2**32 - 1
MAX_SEED = 2**63 - 1

# From the opening of a stream to its handshake: until then it holds a place for nobody.
HANDSHAKE_S = 10.0
# A session without a request keeps its place for so long, though all are taken and one asks for it.
KEPT_S = 30.0
# Pings keep the ways through routers open, and something under way for TCP to miss.
KEEPALIVE_MS = 10_000
# No answer to a ping says little: on a slow link it waits behind all that is queued, 4 MiB of the
# kernel's alone. Who is silent is found by other means; this ends what they miss.
PING_TIMEOUT_MS = 600_000
# The kernel ends a connection over which nothing has come through for so long (TCP_USER_TIMEOUT).
TCP_TIMEOUT_MS = 15_000
# Below the client's period, or the server would answer its pings with GOAWAY.
MIN_PING_INTERVAL_MS = 5_000

_SIZES = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]

_PINGS = [
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", TCP_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
]

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    *_SIZES,
    *_PINGS,
    ("grpc.use_local_subchannel_pool", 1),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_SIZES,
    *_PINGS,
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    # A second server on a port that is taken must fail, not share it.
    ("grpc.so_reuseport", 0),
]
