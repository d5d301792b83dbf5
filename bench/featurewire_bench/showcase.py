"""The demo's pictures: compared outputs in, segmentation.png and image.png out."""

from collections.abc import Sequence
from pathlib import Path

from featurewire_bench import metrics
from featurewire_bench.demo import Comparison
from featurewire_bench.pictures import Segmented, segmentation_picture, side_by_side
from featurewire_bench.samples import class_names
from featurewire_bench.scores import class_map
from featurewire_bench.table import bytes_text
from featurewire_bench.workload import Inference

SHOWN = 4  # samples in a picture


def write_pictures(comparisons: Sequence[Comparison], out: Path) -> None:
    """Writes the pictures of those comparisons that have any."""
    for comparison in comparisons:
        if comparison.workload.task == "segmentation":
            write_segmentation(comparison, out / "segmentation.png")
        if comparison.workload.task == "text-to-image":
            write_images(comparison, out / "image.png")


def write_segmentation(comparison: Comparison, path: Path) -> None:
    """Scenes with their true, unsplit and split class maps."""
    assert isinstance(comparison.workload, Inference)
    views = [
        Segmented(
            image=scene.image,
            truth=scene.mask,
            unsplit=class_map(unsplit, scene.mask.shape),
            split=class_map(split, scene.mask.shape),
        )
        for scene, unsplit, split in zip(
            comparison.workload.samples, comparison.unsplit, comparison.outputs, strict=True
        )
    ]
    segmentation_picture(
        views[:SHOWN], class_names(comparison.workload.model, comparison.workload.task), path
    )


def write_images(comparison: Comparison, path: Path) -> None:
    """Generated images, unsplit beside split, with how alike they are."""
    assert isinstance(comparison.workload, Inference)
    pairs, alike = [], []
    for sample, unsplit, split in zip(
        comparison.workload.samples, comparison.unsplit, comparison.outputs, strict=True
    ):
        images = unsplit.images[0].numpy(), split.images[0].numpy()
        pairs.append((sample.text, *images))
        alike.append(metrics.psnr(*images))
    ours = comparison.ours
    caption = (
        f"latents sent in {bytes_text(ours.sent_bytes)} instead of "
        f"{bytes_text(comparison.float16.sent_bytes)} as float16; "
        f"PSNR of split against unsplit {min(alike):.1f} to {max(alike):.1f} dB"
    )
    side_by_side(pairs[:SHOWN], caption, path)
