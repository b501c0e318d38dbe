"""Results of all stages as files, made up, for tests of the report and its page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.core import paths
from components.core.files import write_csv
from components.data.build import build_store
from components.data.record import StoreForm
from components.sources.readers.types import CaptionedImage

NASTY = "</text><script>alert('&')</script>"
BACKBONES = ("virtex", "random")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_everything(texts: Sequence[str] = (NASTY,)) -> None:
    """Made-up results of all stages, with classes, captions and datasets of these names among them."""
    out = paths.stage_dir
    pretraining = {"train_loss": 3.2, "val_loss": 2.75, "perplexity": 3.9, "images_seen": 38400}
    pretraining |= {"seconds": 372.4, "images_per_second": 103.1, "iterations": 600, "images": 4000}
    parts = {"captioning_forward": 1.5, "captioning_backward": 1.25}
    write(out("pretrain") / "metrics.json", pretraining | {"val": parts})
    rows = "20,9.5,0.1,0.2\n40,6.5,0.2,0.1\n600,3.2,0,0\n"
    write(out("pretrain") / "train.csv", "iteration,loss,backbone_lr,head_lr\n" + rows)
    write(out("pretrain") / "val.csv", "iteration,loss\n0,10.5\n300,4.5\n600,2.75\n")
    write(out("select") / "metrics.json", {"iteration": 450, "criterion": "VOC07 mAP, test"})
    write(out("select") / "checkpoints.csv", "iteration,score,chosen\n300,50.0,no\n450,61.1,yes\n")
    split = {"images": 12, "captions": 60}
    captions = {text: {"train": split} for text in texts}
    write(out("datasets") / "metrics.json", {"captions": captions, "voc2007": {"test": split}})
    for shift, name in enumerate(BACKBONES):
        write(out("voc07", name) / "metrics.json", {"mAP": 61.08 - shift, "num_test": 600})
        aps = [*((text, 81.0 - shift) for text in texts), ("cone", 40)]
        write_csv(out("voc07", name) / "ap.csv", ("class", "ap"), aps)
        curve = "class,recall,precision\ncone,0.5,1.0\ncone,1.0,0.5\n"
        write(out("voc07", name) / "precision_recall.csv", curve)
        for benchmark in ("imagenet_linear", "inaturalist"):
            figures: dict[str, Any] = {"top1": 30.0 - shift, "top5": 60.0, "best_top1": 31.0}
            groups = {"many": {"classes": 1, "images": 9, "top1": 44.4}, "few": {"classes": 1, "images": 0}}
            write(out(benchmark, name) / "metrics.json", figures | {"by_frequency": groups})
            lines = "epoch,learning_rate,top1\n1,0.3,10\n1,0.1,9\n2,0.3,30\n2,0.1,31\n"
            write(out(benchmark, name) / "val.csv", lines)
            top1 = [*((text, 50) for text in texts), ("owl", 10), ("none", "")]
            write_csv(out(benchmark, name) / "classes.csv", ("class", "top1"), top1)
            pairs = [*((text, "owl") for text in texts), ("owl", "owl")]
            write_csv(out(benchmark, name) / "predictions.csv", ("actual", "predicted"), pairs)
        for benchmark, kind in (
            ("coco_segmentation", "mask"),
            ("lvis_segmentation", "mask"),
            ("voc_detection", "box"),
        ):
            scores = {"AP": 12.5 + shift, "AP50": 25.0, "AP75": 9.0}
            write(out(benchmark, name) / "metrics.json", {"box": scores, "mask": scores, "images": 40})
            write(out(benchmark, name) / "losses.csv", "iteration,loss\n5,4.5\n10,3.5\n")
            write(out(benchmark, name) / "ap.csv", f"class,{kind}\ncup,12.5\nbowl,\n")
    Image.new("RGB", (90, 60), "green").save(out("coco_segmentation", "virtex") / "detections.png")
    write_captions(texts)


def write_captions(texts: Sequence[str]) -> None:
    entries = [
        {
            "image_id": f"coco/{number}",
            "caption": texts[0] if number == 2 else "" if number == 1 else f"picture {number}",
            "log_probability": -1.5 * number,
            "references": [f"<b>{number}</b>", *texts],
            "cider": 20.0 * number,
        }
        for number in range(5)
    ]
    scores = {"CIDEr-D": 71.23, "BLEU-4": 20.0, "images": 5, "dataset": "coco"}
    write(paths.stage_dir("caption") / "captions.json", entries)
    others = {f"metric {number}": text for number, text in enumerate(texts[1:])}
    not_run = {"SPICE": "CoreNLP is not installed"} | others
    write(paths.stage_dir("caption") / "metrics.json", scores | {"not_run": not_run})
    images = []
    for entry in entries[:4]:
        path = Path("images") / f"{entry['image_id'].split('/')[1]}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(path)
        images.append(CaptionedImage(entry["image_id"], "coco", path, ("one",)))
    build_store(paths.lmdb_path("val"), images, StoreForm(), num_workers=1)
