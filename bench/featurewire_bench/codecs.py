"""The codecs' benchmark: which sources, from which data, measured one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from featurewire_codec.dt_ufc.weights import FOLDER

from featurewire_bench.baselines import BASELINES, Method
from featurewire_bench.conditions import conditions
from featurewire_bench.errors import MissingExtraError, SampleError
from featurewire_bench.measured import Measured
from featurewire_bench.measurement import THREADS
from featurewire_bench.own_codec import ours
from featurewire_bench.rate_distortion import SNRS_DB, Progress, measure
from featurewire_bench.sources import Source
from featurewire_bench.sources.texts import Kind

GROUPS = ("text-in-domain", "text-across", "massive", "latents", "cnn", "bundled")
QUICK_SNRS_DB = (10.0, 15.0, 20.0)
MASSIVE_LAYER = 3
BUNDLED_TASKS = 5


@dataclass(frozen=True)
class CodecsConfig:
    """What to measure on.

    texts: folders, a kind of text each, to calibrate on before the two kinds that every Python
    carries; in domain is the first kind. test_text: a folder of another kind; else the language
    reference. latents: a file, see `latents_source`. tokens: to calibrate text on, at most.
    networks: a folder of folders of DT-UFC networks trained for one task: `text`, or named as the
    group; by default those that ship, for text and latents.
    """

    sources: Sequence[str] | None = None
    texts: Sequence[Path] = ()
    test_text: Path | None = None
    latents: Path | None = None
    tokens: int = 98_304
    samples: int = 24
    layers: Sequence[int] = (2, 3, 4, 5)
    snrs_db: Sequence[float] = SNRS_DB
    networks: Path | None = None
    notes: list[str] = field(default_factory=list)  # what was left out, and why

    @classmethod
    def quick(cls, **chosen: Any) -> "CodecsConfig":
        """A look at everything in a minute or two: one layer, few tokens, few settings."""
        small: dict[str, Any] = {"tokens": 24_576, "samples": 6}
        small |= {"layers": (3,), "snrs_db": QUICK_SNRS_DB}
        return cls(**small | chosen)

    @property
    def groups(self) -> Sequence[str]:
        """The groups asked for, or all for which there is data.

        Raises:
            SampleError: a group is unknown, or its data is not given.
        """
        asked = self.sources or [name for name in GROUPS if name != "latents" or self.latents]
        unknown = sorted(set(asked) - set(GROUPS))
        if unknown:
            raise SampleError(f"sources are {', '.join(GROUPS)}; there is no {unknown[0]!r}")
        if "latents" in asked and not self.latents:
            raise SampleError("the source 'latents' needs --latents FILE")
        return asked


def step_count(config: CodecsConfig) -> int:
    """How often a run tells its progress: at each codec of each source, and at each calibration."""
    sizes = {"text-in-domain": len(config.layers), "text-across": len(config.layers)}
    sizes["bundled"] = BUNDLED_TASKS
    sources = sum(sizes.get(group, 1) for group in config.groups)
    own = sum(sizes.get(group, 1) for group in config.groups if task_networks(group, config))
    return sources * (1 + len(ours()) + len(_baselines("", config))) + own


def run_codecs(config: CodecsConfig, progress: Progress) -> Iterator[Measured]:
    """Measure every codec on every source, one source after another.

    Raises:
        BenchError: data asked for is missing or malformed.
        CodecError, ModelError: a codec or a model fails.
    """
    torch.set_num_threads(THREADS)
    for method in BASELINES:
        if not method.is_available:
            config.notes.append(f"{method.name} is left out: {method.needs} is not installed")
    for group in config.groups:
        try:
            for source in _sources(group, config):
                title = source.title

                def tell(name: str, title: str = title, group: str = group) -> None:
                    progress(f"{group}: {title}, {name}")

                baselines = _baselines(group, config)
                yield measure(source, config.snrs_db, tell, baselines)
        except MissingExtraError as error:
            if config.sources:
                raise
            config.notes.append(f"{group} is left out: {error}")


def document(config: CodecsConfig, results: Sequence[Measured]) -> dict[str, Any]:
    """codecs.json: the conditions, and everything measured."""
    return {
        "conditions": conditions(),
        "notes": config.notes,
        "sources": [asdict(measured) for measured in results],
    }


def task_networks(group: str, config: CodecsConfig) -> Path | None:
    """The folder of DT-UFC networks that were trained for a group's task alone, if there is one."""
    task = "text" if group in _TEXTS else group
    folder = (config.networks or FOLDER) / task
    return folder if task and folder.is_dir() else None


def _baselines(group: str, config: CodecsConfig) -> list[Method]:
    from featurewire_bench.baselines.dt_ufc import dt_ufc_methods

    methods = [*BASELINES, *dt_ufc_methods(task_networks(group, config))]
    return [method for method in methods if method.is_available]


def _sources(group: str, config: CodecsConfig) -> Iterator[Source]:
    from featurewire_bench.sources import images

    many, some = 10 * config.samples, 4 * config.samples
    if group == "latents":
        assert config.latents is not None  # the groups say so
        yield images.latents_source(config.latents, many, config.samples)
    elif group == "cnn":
        yield images.post_relu_source(many, some)
    elif group == "bundled":
        from featurewire_bench.sources.bundled_models import bundled_sources

        yield from bundled_sources(3 * config.samples, config.samples)
    else:
        yield from _TEXTS[group](config)


def _in_domain(config: CodecsConfig) -> Iterator[Source]:
    return _first_kind(config, config.tokens, config.layers)


def _first_kind(config: CodecsConfig, tokens: int, layers: Sequence[int]) -> Iterator[Source]:
    from featurewire_bench.sources.minilm import CHUNK, cut, text_sources

    chunks = cut(_kinds(config)[0], tokens // CHUNK, config.samples)
    yield from text_sources([chunks], chunks, layers, "text-in-domain")


def _across(config: CodecsConfig) -> Iterator[Source]:
    from featurewire_bench.sources.minilm import CHUNK, cut, text_sources
    from featurewire_bench.sources.texts import language_reference, read_folder

    kinds = _kinds(config)
    share = config.tokens // CHUNK // len(kinds)
    third = read_folder(config.test_text) if config.test_text else language_reference()
    tests = cut(third, 0, config.samples)
    mix = [cut(kind, share, 1) for kind in kinds]
    yield from text_sources(mix, tests, config.layers, "text-across")


def _massive(config: CodecsConfig) -> Iterator[Source]:
    from featurewire_bench.sources.minilm import with_giants

    for source in _first_kind(config, config.tokens // 3, [MASSIVE_LAYER]):
        yield with_giants(source)


_TEXTS: dict[str, Callable[[CodecsConfig], Iterator[Source]]] = {
    "text-in-domain": _in_domain,
    "text-across": _across,
    "massive": _massive,
}


def _kinds(config: CodecsConfig) -> list[Kind]:
    from featurewire_bench.sources.texts import library_code, package_descriptions, read_folder

    own = [read_folder(folder) for folder in config.texts]
    return [*own, package_descriptions(), library_code()]
