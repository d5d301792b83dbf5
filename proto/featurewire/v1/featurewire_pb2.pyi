from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_BFLOAT16: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_BOOL: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]

class Finish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_UNSPECIFIED: _ClassVar[Finish]
    FINISH_STOP: _ClassVar[Finish]
    FINISH_LENGTH: _ClassVar[Finish]
    FINISH_CONTEXT: _ClassVar[Finish]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_BFLOAT16: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_BOOL: DataType
DATA_TYPE_FLOAT64: DataType
FINISH_UNSPECIFIED: Finish
FINISH_STOP: Finish
FINISH_LENGTH: Finish
FINISH_CONTEXT: Finish

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "models", "codecs")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    models: _containers.RepeatedCompositeFieldContainer[Model]
    codecs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., codecs: _Optional[_Iterable[str]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "revision", "family", "dtype", "splits", "default_split", "tasks", "default_task", "context_tokens", "profiles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SPLIT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TASK_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    family: str
    dtype: str
    splits: _containers.RepeatedScalarFieldContainer[str]
    default_split: str
    tasks: _containers.RepeatedScalarFieldContainer[str]
    default_task: str
    context_tokens: int
    profiles: _containers.RepeatedCompositeFieldContainer[ProfileSet]
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ..., family: _Optional[str] = ..., dtype: _Optional[str] = ..., splits: _Optional[_Iterable[str]] = ..., default_split: _Optional[str] = ..., tasks: _Optional[_Iterable[str]] = ..., default_task: _Optional[str] = ..., context_tokens: _Optional[int] = ..., profiles: _Optional[_Iterable[_Union[ProfileSet, _Mapping]]] = ...) -> None: ...

class ProfileSet(_message.Message):
    __slots__ = ("task", "split", "digest", "tensors")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    task: str
    split: str
    digest: str
    tensors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[str] = ..., split: _Optional[str] = ..., digest: _Optional[str] = ..., tensors: _Optional[_Iterable[str]] = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("digest", "tensor", "file", "offset", "max_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    tensor: str
    file: str
    offset: int
    max_bytes: int
    def __init__(self, digest: _Optional[str] = ..., tensor: _Optional[str] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class GetProfileResponse(_message.Message):
    __slots__ = ("payload", "total_bytes")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    total_bytes: int
    def __init__(self, payload: _Optional[bytes] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("padding",)
    PADDING_FIELD_NUMBER: _ClassVar[int]
    padding: bytes
    def __init__(self, padding: _Optional[bytes] = ...) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RawTensor(_message.Message):
    __slots__ = ("name", "data_type", "shape", "payload")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    payload: bytes
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class CodedTensor(_message.Message):
    __slots__ = ("name", "batch", "tokens", "channels", "grid_rows", "grid_columns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    GRID_ROWS_FIELD_NUMBER: _ClassVar[int]
    GRID_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    batch: int
    tokens: int
    channels: int
    grid_rows: int
    grid_columns: int
    def __init__(self, name: _Optional[str] = ..., batch: _Optional[int] = ..., tokens: _Optional[int] = ..., channels: _Optional[int] = ..., grid_rows: _Optional[int] = ..., grid_columns: _Optional[int] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("handshake", "chunk", "begin")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    handshake: Handshake
    chunk: Chunk
    begin: Begin
    def __init__(self, handshake: _Optional[_Union[Handshake, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., begin: _Optional[_Union[Begin, _Mapping]] = ...) -> None: ...

class Handshake(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "model", "revision", "split", "task", "codec", "profiles", "dtype")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    model: str
    revision: str
    split: str
    task: str
    codec: str
    profiles: str
    dtype: str
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., split: _Optional[str] = ..., task: _Optional[str] = ..., codec: _Optional[str] = ..., profiles: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("request", "tensors", "uncoded", "generation", "outputs", "spans", "parts")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    UNCODED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    request: int
    tensors: _containers.RepeatedCompositeFieldContainer[CodedTensor]
    uncoded: _containers.RepeatedCompositeFieldContainer[RawTensor]
    generation: Generation
    outputs: _containers.RepeatedScalarFieldContainer[str]
    spans: bool
    parts: bool
    def __init__(self, request: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[CodedTensor, _Mapping]]] = ..., uncoded: _Optional[_Iterable[_Union[RawTensor, _Mapping]]] = ..., generation: _Optional[_Union[Generation, _Mapping]] = ..., outputs: _Optional[_Iterable[str]] = ..., spans: bool = ..., parts: bool = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("sampling", "stop", "max_tokens", "delivered")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    sampling: Sampling
    stop: _containers.RepeatedScalarFieldContainer[str]
    max_tokens: int
    delivered: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sampling: _Optional[_Union[Sampling, _Mapping]] = ..., stop: _Optional[_Iterable[str]] = ..., max_tokens: _Optional[int] = ..., delivered: _Optional[_Iterable[int]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("request", "tensor", "sample", "payload", "last", "tokens")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    request: int
    tensor: int
    sample: int
    payload: bytes
    last: bool
    tokens: int
    def __init__(self, request: _Optional[int] = ..., tensor: _Optional[int] = ..., sample: _Optional[int] = ..., payload: _Optional[bytes] = ..., last: bool = ..., tokens: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("handshake", "ack", "output", "token", "go_away", "account")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    handshake: HandshakeReply
    ack: Ack
    output: OutputChunk
    token: Token
    go_away: GoAway
    account: Account
    def __init__(self, handshake: _Optional[_Union[HandshakeReply, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., output: _Optional[_Union[OutputChunk, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class HandshakeReply(_message.Message):
    __slots__ = ("protocol", "model", "revision", "split", "task", "codec", "profiles", "dtype", "limits")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    model: str
    revision: str
    split: str
    task: str
    codec: str
    profiles: str
    dtype: str
    limits: Limits
    def __init__(self, protocol: _Optional[int] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., split: _Optional[str] = ..., task: _Optional[str] = ..., codec: _Optional[str] = ..., profiles: _Optional[str] = ..., dtype: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_chunk_bytes", "max_chunks_in_flight", "max_features", "max_uncoded_bytes")
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNKS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MAX_UNCODED_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_chunk_bytes: int
    max_chunks_in_flight: int
    max_features: int
    max_uncoded_bytes: int
    def __init__(self, max_chunk_bytes: _Optional[int] = ..., max_chunks_in_flight: _Optional[int] = ..., max_features: _Optional[int] = ..., max_uncoded_bytes: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("request", "chunks", "bytes", "received_ns", "late")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    request: int
    chunks: int
    bytes: int
    received_ns: int
    late: bool
    def __init__(self, request: _Optional[int] = ..., chunks: _Optional[int] = ..., bytes: _Optional[int] = ..., received_ns: _Optional[int] = ..., late: bool = ...) -> None: ...

class OutputChunk(_message.Message):
    __slots__ = ("request", "name", "data_type", "shape", "payload")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    request: int
    name: str
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    payload: bytes
    def __init__(self, request: _Optional[int] = ..., name: _Optional[str] = ..., data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("request", "position", "id", "finish", "queue_us", "decode_us", "tail_us")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_US_FIELD_NUMBER: _ClassVar[int]
    request: int
    position: int
    id: int
    finish: Finish
    queue_us: int
    decode_us: int
    tail_us: int
    def __init__(self, request: _Optional[int] = ..., position: _Optional[int] = ..., id: _Optional[int] = ..., finish: _Optional[_Union[Finish, str]] = ..., queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., tail_us: _Optional[int] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("grace_ms",)
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    grace_ms: int
    def __init__(self, grace_ms: _Optional[int] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("request", "received_bytes", "features", "queue_seconds", "decode_seconds", "tail_seconds")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DECODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAIL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    request: int
    received_bytes: int
    features: int
    queue_seconds: float
    decode_seconds: float
    tail_seconds: float
    def __init__(self, request: _Optional[int] = ..., received_bytes: _Optional[int] = ..., features: _Optional[int] = ..., queue_seconds: _Optional[float] = ..., decode_seconds: _Optional[float] = ..., tail_seconds: _Optional[float] = ...) -> None: ...
