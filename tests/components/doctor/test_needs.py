"""What the parameters ask for."""

import torch

from components.doctor import capacity, software
from components.objectives.build import ModelConfig, build_objective

PAPER = "coco/bicaptioning_R_50_L1_H2048"


def test_the_model_is_weighed_without_being_made(sections):
    active = sections()
    config = ModelConfig(
        backbone=active["backbone"],
        textual_head=active["textual_head"],
        objective=active["objective"],
        vocab_size=active["tokenize"].vocab_size,
    )
    weights = {value.data_ptr(): value for value in build_objective(config).state_dict().values()}
    assert capacity.weight_bytes(active) == sum(v.numel() * v.element_size() for v in weights.values())
    assert torch.get_default_device().type == "cpu"


def test_the_papers_run_needs_its_archives_and_checkpoints(sections):
    needed = {what: num_bytes for _, num_bytes, what in capacity.disk_needs(sections(preset=PAPER))}
    assert needed["coco's archives"] > 20e9
    assert needed["coco, unpacked"] > 20e9
    assert 4e9 < needed["resume checkpoints"] < 5e9  # 2.3 GB each, measured: params.yaml
    assert 15e9 < needed["LMDB"] < 25e9


def test_images_of_any_published_captions_are_counted(sections):
    needed = {what: num_bytes for _, num_bytes, what in capacity.disk_needs(sections(preset="mini"))}
    assert needed["LMDB"] > 10e6  # the 5,000 images of coco_val2017


def test_archives_that_have_arrived_need_no_more_room(sections, workspace):
    active = sections(preset=PAPER)
    before = {what: num_bytes for _, num_bytes, what in capacity.disk_needs(active)}
    from components.core.datasets import DATASETS

    for archive in DATASETS["voc2007"].archives:
        path = workspace / "datasets" / "archives" / "voc2007" / archive.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    after = {what: num_bytes for _, num_bytes, what in capacity.disk_needs(active)}
    assert set(before) - set(after) == {"voc2007's archives", "voc2007, unpacked"}


def test_what_needs_a_gpu(sections):
    assert software.needs_gpu(sections()) == []
    overrides = ("pretrain.precision=fp16", "pretrain.sync_batch_norm=true")
    assert software.needs_gpu(sections(*overrides)) == [
        "pretrain.sync_batch_norm: true",
        "pretrain.precision: fp16",
    ]


def test_detectron2_is_needed_only_where_a_backbone_is_to_be_measured_with_it(sections):
    none = sections("coco_segmentation.engine=detectron2", "benchmarks.detection_backbones=[]")
    assert software.detectron2_sections(none) == []
    assert software.detectron2_sections(sections("benchmarks.detection_backbones=[virtex]")) == [
        "coco_segmentation"
    ]


def test_shared_memory_grows_with_workers_and_crops(sections, monkeypatch):
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "16")
    assert capacity.shared_memory_bytes(sections(preset=PAPER)) == 2 * 16 * 256 * 3 * 224**2 * 4
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")
    assert capacity.shared_memory_bytes(sections()) == 2 * 256 * 3 * 224**2 * 4
