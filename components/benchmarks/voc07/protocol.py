"""VOC07 classification of one backbone from images to results: what the stages voc07 and select share."""

import time

from torch import nn

from components import params
from components.benchmarks.shared.features import cached_features, l2_normalised
from components.benchmarks.voc07.measured import Measured, measurement_key
from components.benchmarks.voc07.svm import Split, SvmProtocol, evaluate_classes
from components.core import machine, paths
from components.core.errors import InputError
from components.data.transforms import EvalTransform
from components.sources.manifest import read_manifest
from components.sources.readers.voc import VocSplit, read_voc07


class Voc07Benchmark:
    """The protocol of params.yaml on the VOC2007 of this run.

    Raises:
        InputError: if the run has no VOC2007, or its splits do not fit each other.
    """

    def __init__(self, voc07: params.Voc07) -> None:
        self.voc07 = voc07
        self.trainval, self.test = _read_splits()

    def measure(self, backbone: nn.Module) -> Measured:
        """Benchmark a frozen backbone, as `components.export.backbone.load_backbone` gives it."""
        start = time.perf_counter()
        splits = [
            self._features(backbone, split, name)
            for name, split in (("trainval", self.trainval), ("test", self.test))
        ]
        extracted = time.perf_counter()
        voc07 = self.voc07
        protocol = SvmProtocol(tuple(voc07.costs), voc07.folds, voc07.positive_weight, voc07.max_iterations)
        results = evaluate_classes(
            self.trainval.classes, splits[0], splits[1], protocol, machine.device_name()
        )
        return Measured(results, extracted - start, time.perf_counter() - extracted)

    def key(self, backbone: nn.Module) -> str:
        """Return the digest of all that the results of ``backbone`` depend on."""
        return measurement_key(backbone, (self.trainval, self.test), self.voc07)

    def _features(self, backbone: nn.Module, split: VocSplit, name: str) -> Split:
        features = cached_features(
            backbone,
            split.image_paths,
            EvalTransform(self.voc07.image_size, self.voc07.crop_size, self.voc07.antialias),
            batch_size=self.voc07.batch_size,
            num_workers=machine.num_cpus(),
            device=machine.device_name(),
            description=f"{name} features",
        )
        return Split(l2_normalised(features), split.labels)


def _read_splits() -> tuple[VocSplit, VocSplit]:
    root = read_manifest(paths.dataset_part("voc07")).root_of("voc2007")
    trainval, test = read_voc07(root, "trainval"), read_voc07(root, "test")
    if trainval.classes != test.classes:
        different = sorted(set(trainval.classes) ^ set(test.classes))
        raise InputError(
            f"{root}: ImageSets/Main must list the same classes for trainval and test; "
            f"only one of them lists {', '.join(different)}"
        )
    return trainval, test
