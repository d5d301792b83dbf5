"""Split models: the head runs at the edge, the tail in the cloud, and nothing changes in between.

>>> head = load_head("tiny-llama3", split="layers.4")
>>> tail = load_tail("tiny-llama3", split="layers.4")
>>> outputs = tail(head(inputs))           # load_model("tiny-llama3")(inputs), bit for bit
"""

from featurewire_models.errors import (
    ArchitectureError,
    InputError,
    ModelError,
    PlacementError,
    SourceError,
    SplitError,
    TaskError,
    WeightsError,
)
from featurewire_models.features import Features
from featurewire_models.halves import Cache, Head, Model, Tail
from featurewire_models.image_processor import ImageProcessor
from featurewire_models.info import ModelInfo, describe
from featurewire_models.loading import check_weights, load_head, load_model, load_tail
from featurewire_models.outputs import Outputs, outputs_to_tensors, tensors_to_outputs
from featurewire_models.processor import Processor, load_processor
from featurewire_models.prompt_processor import PromptProcessor
from featurewire_models.text_processor import TextProcessor

__all__ = [
    "ArchitectureError",
    "Cache",
    "Features",
    "Head",
    "ImageProcessor",
    "InputError",
    "Model",
    "ModelError",
    "ModelInfo",
    "Outputs",
    "PlacementError",
    "Processor",
    "PromptProcessor",
    "SourceError",
    "SplitError",
    "Tail",
    "TaskError",
    "TextProcessor",
    "WeightsError",
    "check_weights",
    "describe",
    "load_head",
    "load_model",
    "load_processor",
    "load_tail",
    "outputs_to_tensors",
    "tensors_to_outputs",
]
