"""A model's name goes in; what it is and how it can be split comes out, from its configs alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import CONFIG_MAPPING, AutoConfig

from featurewire_models.errors import ArchitectureError, TaskError, one_line
from featurewire_models.source import Source, resolve
from featurewire_models.split import layer_splits

# Decoder-only models whose class is embed_tokens, layers, norm, lm_head and nothing in between.
LLAMA_TYPES = ("llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3")
DINOV2_TASKS = {
    "Dinov2Model": "features",
    "Dinov2ForImageClassification": "classification",
    "Dinov2ForSemanticSegmentation": "segmentation",
    "DPTForDepthEstimation": "depth",
}
VIT_TASKS = {
    "DINOv3ViTModel": "features",
    "ViTModel": "features",
    "ViTForImageClassification": "classification",
}
FAMILIES = (
    f"{', '.join(LLAMA_TYPES)} (causal language models), bert, dinov2, dinov3_vit, vit and "
    "StableDiffusion3Pipeline"
)
Family = Literal["llama", "dinov2", "vit", "sd3", "bert"]
TASK_FOLDERS = ("classification", "segmentation", "depth")
MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder holds.

    ``family``: "llama", "dinov2", "vit", "sd3" or "bert". ``splits``: the points at which every
    task can be split. ``context``: the most tokens of one input, None where there is no such limit.
    ``folders``: the folder of each task's own weights.
    """

    source: Source
    family: Family
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    default_split: str
    default_task: str
    context: int | None
    folders: dict[str, Path]

    @property
    def name(self) -> str:
        """The same on every machine: bundled name, folder name or hub id."""
        return self.source.name

    @property
    def path(self) -> Path:
        """The model's local folder."""
        return self.source.path

    @property
    def revision(self) -> str:
        """The hub's commit, or the digest of the folder."""
        return self.source.revision

    def profile_folder(self, split: str, task: str) -> Path | None:
        """The codec profiles that lie beside the model for this split point, if any do.

        The folder holds one profile for each named feature.
        """
        folder = self.path / "profiles" / split / task
        return folder if folder.is_dir() else None

    def check_task(self, task: str | None) -> str:
        """The task itself, the default for None; TaskError naming the model's tasks otherwise."""
        if task is None:
            return self.default_task
        if task in self.tasks:
            return task
        raise TaskError(f"{self.name} has no task {task!r}; it has {', '.join(self.tasks)}.")


def describe(model: str | Path, revision: str | None = None) -> ModelInfo:
    """What the model is. Reads configurations, never weights.

    Raises SourceError for an unknown name and ArchitectureError for a folder that no family knows.
    """
    source = resolve(model, revision)
    if (source.path / "model_index.json").is_file():
        return _describe_pipeline(source)
    config = read_config(source.path)
    if config.model_type in LLAMA_TYPES and _continues_text(config):
        return _describe_stack(
            source, "llama", ("generation",), config, config.max_position_embeddings
        )
    if config.model_type == "bert" and not config.is_decoder:
        context = min(config.max_position_embeddings, _sentence_tokens(source.path))
        return _describe_stack(source, "bert", ("embedding", "tokens"), config, context)
    if _dinov2_task(config) is not None:
        return _describe_dinov2(source, config)
    if task := VIT_TASKS.get(_architecture(config)):
        return _describe_stack(source, "vit", (task,), config, None)
    raise ArchitectureError(
        f"{source.name} is a {config.model_type} model ({_architecture(config)}); the families are "
        f"{FAMILIES}."
    )


def read_config(folder: Path) -> Any:
    """The transformers configuration of a folder; ArchitectureError if absent or damaged."""
    content = read_json(folder / "config.json")
    where, kind = f"{folder.name}/config.json", content.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ArchitectureError(
            f"{where} is no configuration that transformers knows (its model_type is {kind!r}); "
            f"the families are {FAMILIES}."
        )
    if content.get("quantization_config"):
        settings = content["quantization_config"]
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise ArchitectureError(
            f"{where} is of quantised weights ({method}), which are not read; take the model in "
            "bfloat16, float16 or float32."
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # each class checks its numbers in its own way
        raise ArchitectureError(
            f"{where} is no configuration of a {kind} model ({one_line(error)})."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; ArchitectureError if the file is absent, too large or something else."""
    where = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise ArchitectureError(
            f"{where} does not exist, so this folder is no model folder; give one laid out as on "
            "the Hugging Face hub, with config.json, or model_index.json for a pipeline."
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ArchitectureError(f"{where} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchitectureError(f"{where} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ArchitectureError(f"{where} holds a {type(content).__name__}, not an object.")
    return content


def has_t5(info: ModelInfo) -> bool:
    """Whether a Stable Diffusion 3 folder has the third text encoder; many leave it out."""
    entry = read_json(info.path / "model_index.json").get("text_encoder_3")
    return isinstance(entry, list) and bool(entry) and entry[0] is not None


def _continues_text(config: Any) -> bool:
    """Whether a decoder's weights are those of a language model, or of the part of one."""
    architecture = _architecture(config)
    return "For" not in architecture or architecture.endswith("ForCausalLM")


def _architecture(config: Any) -> str:
    return str((config.architectures or ["no architecture"])[0])


def _dinov2_task(config: Any) -> str | None:
    """The task of a Dinov2 or DPT-over-Dinov2 configuration, None for anything else."""
    backbone = getattr(config, "backbone_config", None) if config.model_type == "dpt" else config
    if getattr(backbone, "model_type", None) != "dinov2":
        return None
    return DINOV2_TASKS.get(_architecture(config))


def _layers(config: Any) -> int:
    stack = config.backbone_config if config.model_type == "dpt" else config
    if stack.num_hidden_layers < 1:
        raise ArchitectureError(
            f"config.json of a {config.model_type} model says num_hidden_layers is "
            f"{stack.num_hidden_layers}; it must be 1 or more."
        )
    return int(stack.num_hidden_layers)


def _describe_stack(
    source: Source, family: Family, tasks: tuple[str, ...], config: Any, context: int | None
) -> ModelInfo:
    layers = _layers(config)
    return ModelInfo(
        source=source,
        family=family,
        tasks=tasks,
        splits=layer_splits(layers),
        default_split=f"layers.{layers // 2}",
        default_task=tasks[0],
        context=context,
        folders=dict.fromkeys(tasks, source.path),
    )


def _sentence_tokens(folder: Path) -> int:
    """The token limit that a sentence-transformers folder sets, else one beyond any model's."""
    path = folder / "sentence_bert_config.json"
    return int(read_json(path).get("max_seq_length") or 1 << 30) if path.is_file() else 1 << 30


def _describe_dinov2(source: Source, config: Any) -> ModelInfo:
    configs = {_dinov2_task(config): (config, source.path)}
    for name in TASK_FOLDERS:
        folder = source.path / name
        if (folder / "config.json").is_file():
            task_config = read_config(folder)
            configs.setdefault(_dinov2_task(task_config), (task_config, folder))
    folders = {task: folder for task, (_, folder) in configs.items() if task is not None}
    layers = min(_layers(found) for found, _ in configs.values())
    tasks = tuple(folders)
    return ModelInfo(
        source=source,
        family="dinov2",
        tasks=tasks,
        splits=layer_splits(layers),
        default_split=f"layers.{layers // 2}",
        default_task=tasks[0],
        context=None,
        folders=folders,
    )


def _describe_pipeline(source: Source) -> ModelInfo:
    pipeline = read_json(source.path / "model_index.json").get("_class_name")
    if pipeline != "StableDiffusion3Pipeline":
        raise ArchitectureError(
            f"{source.name} is a {pipeline}; of pipelines only StableDiffusion3Pipeline is known."
        )
    limit = read_json(source.path / "tokenizer" / "tokenizer_config.json").get("model_max_length")
    return ModelInfo(
        source=source,
        family="sd3",
        tasks=("text-to-image",),
        splits=("prompt", "latents"),
        default_split="latents",
        default_task="text-to-image",
        context=int(limit or 77),
        folders={"text-to-image": source.path},
    )
