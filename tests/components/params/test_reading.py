"""Reading and checking params.yaml."""

import shutil
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.params import (
    Augmentation,
    Pretrain,
    TextualHead,
    check_params,
    matching_presets,
    overlay,
    read_preset,
    read_section,
)
from components.params.yaml_files import load_yaml

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def params_path(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_sections_are_typed_and_frozen(params_path: Path) -> None:
    sections = check_params(params_path)
    assert isinstance(sections["pretrain"], Pretrain)
    assert isinstance(read_section(Augmentation, params_path).crop_scale, tuple)
    with pytest.raises(ValueError, match="frozen"):
        sections["pretrain"].seed = 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  validate_every:",
            "  validateevery:",
            "unknown key `pretrain.validateevery` (did you mean `validate_every`?)",
        ),
        ("\nvoc07:", "\nvoc2007:", "unknown section `voc2007` (did you mean `voc07`?)"),
        ("    image_size:", "    image_siz:", "`download.drawn_world.image_siz`"),
        ("  backbone_lr: 0.001", "  backbone_lr: .inf", "`optimizer.backbone_lr`"),
        ("  momentum: 0.9", "  momentum: fast", "`optimizer.momentum`"),
        ("  momentum: 0.9", "  momentum: 1.5", "less than 1, found 1.5"),
        ("crop_scale: [0.6, 1.0]", "crop_scale: [0.9, 0.2]", "smallest <= largest"),
        ("crop_scale: [0.6, 1.0]", "crop_scale: [0.9, 2.0]", "at most 1"),
        ("  attention_heads: null ", "  attention_heads: 7 ", "not a multiple of 7"),
        ("  source: drawn_world", "  source: folders", "at least one dataset"),
        ("  name: cosine ", "  name: multistep ", "multistep needs milestones"),
        ("  short_side: null", "  short_side: '256'", "valid integer, found '256'"),
        ("  shards: []", "  shards: 4", "numbers of all shards, as [0, 1, 2, 3]"),
        ("  shards: []", "  shards: [0, 2]", "numbers of all shards, as [0, 1, 2, 3]"),
        ("  shards: []", "  shards: [0, true]", "numbers of all shards, as [0, 1, 2, 3]"),
        ("  precision: fp32", "  precision: [", "not valid YAML"),
        (
            "  dataset: coco                  # which of download's captioned datasets to",
            "  dataset: coca  # to",
            "`caption.dataset`: 'coca' is not a captioned dataset",
        ),
        (
            "  image_size: null",
            "  image_size: 40",
            "`caption.image_size`: 40 is less than augmentation.crop_size, 48; expected at least as much",
        ),
    ],
)
def test_faults_name_the_key_and_the_remedy(params_path: Path, old: str, new: str, expected: str) -> None:
    edit(params_path, old, new)
    with pytest.raises(InputError) as caught:
        check_params(params_path)
    assert expected in str(caught.value)
    assert "params.yaml" in str(caught.value)


def test_all_faults_of_a_section_are_reported_at_once(params_path: Path) -> None:
    edit(params_path, "  momentum: 0.9", "  momentum: 2")
    edit(params_path, "  lookahead_alpha: 0.5", "  lookahead_alpa: 0.5")
    with pytest.raises(InputError) as caught:
        check_params(params_path)
    for expected in (
        "optimizer.momentum",
        "optimizer.lookahead_alpa",
        "`optimizer.lookahead_alpha` is missing",
    ):
        assert expected in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check_params(tmp_path / "params.yaml")


def test_exponents_are_numbers(params_path: Path) -> None:
    edit(params_path, "weight_decay: 0.01", "weight_decay: 1e-4")
    assert check_params(params_path)["optimizer"].weight_decay == 1e-4  # type: ignore[attr-defined]


def test_overlay_keeps_comments_and_names_changes(params_path: Path) -> None:
    before = params_path.read_text(encoding="utf-8")
    changes = overlay(None, ["baseline.seed=32", "lmdb.short_side=72"], params_path)
    assert [str(change) for change in changes] == [
        "baseline.seed: 0 -> 32",
        "lmdb.short_side: null -> 72",
    ]
    after = params_path.read_text(encoding="utf-8")
    assert after.count("#") == before.count("#")
    assert len(after.splitlines()) == len(before.splitlines())
    assert overlay(None, ["baseline.seed=32"], params_path) == []


def test_a_number_of_shards_is_written_as_the_list_that_dvc_needs(params_path: Path, tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("lmdb: {shards: 3}\n")
    for preset, override, written in [
        (None, ["lmdb.shards=4"], "[0, 1, 2, 3]"),
        ("large", [], "[0, 1, 2]"),
        (None, ["lmdb.shards=1"], "[]"),
    ]:
        overlay(preset, override, params_path, tmp_path)
        assert f"\n  shards: {written}\n" in params_path.read_text(encoding="utf-8")
    assert overlay(None, ["lmdb.shards=[]"], params_path) == []


def test_overlay_writes_urls_that_every_parser_reads(params_path: Path) -> None:
    overlay(None, ["download.mirrors.coco=['http://host:80/coco']"], params_path)
    overlay(None, ["download.mirrors.lvis=['http://host:80/lvis']"], params_path)
    mirrors = {name: [f"http://host:80/{name}"] for name in ("coco", "lvis")}
    assert load_yaml(params_path)["download"]["mirrors"] == mirrors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Presets: base, two that extend it, one of them twice removed, and some that cannot."""
    contents = {
        "base": "download: {source: folders, folders: {captions: {one: a}}}\ncaption: {dataset: one}\n"
        "pretrain: {seed: 1, batch_size: 8}\n",
        "rows/child": "extends: base\npretrain: {seed: 2}\n",
        "rows/grandchild": "extends: rows/child\ndownload: {folders: {captions: {two: b}}}\n"
        "caption: {dataset: two}\n",
        "same": "extends: base\n",
        "lost": "extends: bass\n",
        "odd": "extends: [base]\n",
        "round": "extends: about\n",
        "about": "extends: round\n",
        "misspelt": "pretrain: {sed: 1}\n",
        "heir": "extends: misspelt\n",
    }
    for name, text in contents.items():
        path = tmp_path / "presets" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "presets"


def test_a_preset_extends_another(params_path: Path, folder: Path) -> None:
    assert read_preset("rows/grandchild", folder) == {
        "download": {"source": "folders", "folders": {"captions": {"two": "b"}}},
        "pretrain": {"seed": 2, "batch_size": 8},
        "caption": {"dataset": "two"},
    }
    assert read_preset("base", folder)["pretrain"] == {"seed": 1, "batch_size": 8}
    overlay(None, ["select.by=last"], params_path)
    changed = [change.key for change in overlay("rows/grandchild", (), params_path, folder)]
    assert len(changed) == len(set(changed)) == 5
    assert check_params(params_path)["download"].folders.captions == {"two": "b"}  # type: ignore[attr-defined]


def test_the_most_specific_preset_in_force_comes_first(params_path: Path, folder: Path) -> None:
    for name in ("lost", "odd", "round", "about", "misspelt", "heir"):
        (folder / f"{name}.yaml").unlink()
    (folder / "a.yaml").write_text("pretrain: {seed: 1}\n")
    overlay("same", ["select.by=last"], params_path, folder)
    assert matching_presets(params_path, folder) == ["same", "base", "a"]
    overlay("rows/child", (), params_path, folder)
    assert matching_presets(params_path, folder) == ["rows/child"]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("lost", r"lost\.yaml: `extends`: unknown preset `bass` \(did you mean `base`\?\)"),
        ("odd", r"odd\.yaml: `extends`: unknown preset `\['base'\]`"),
        ("round", r"about\.yaml: presets extend each other: round -> about -> round"),
        ("heir", r"misspelt\.yaml: unknown key `pretrain\.sed` \(did you mean `seed`\?\)"),
    ],
)
def test_presets_that_cannot_be(params_path: Path, folder: Path, preset: str, expected: str) -> None:
    before = params_path.read_bytes()
    with pytest.raises(InputError, match=expected):
        overlay(preset, (), params_path, folder)
    assert params_path.read_bytes() == before


def test_overlay_accepts_new_captioned_datasets(params_path: Path) -> None:
    changes = ["download.folders.captions={mine: my/photos}", "download.source=folders"]
    with pytest.raises(InputError, match=r"`caption\.dataset`: 'coco' .*valid: mine"):
        overlay(None, changes, params_path)
    changes.append("caption.dataset=mine")
    with pytest.raises(InputError, match=r"`select\.by`: voc07 needs .*`download\.folders`.* val_loss"):
        overlay(None, changes, params_path)
    overlay(None, [*changes, "select.by=val_loss"], params_path)
    assert check_params(params_path)["download"].folders.captions == {"mine": "my/photos"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("split", ["trainval", "test"])
def test_choosing_by_voc07_needs_its_images(params_path: Path, split: str) -> None:
    with pytest.raises(InputError, match=r"`select\.by`: voc07 needs .*`download\.drawn_world`"):
        overlay(None, [f"download.drawn_world.voc_{split}_images=0"], params_path)


def test_an_iteration_divides_into_its_parts(params_path: Path) -> None:
    overlay(None, ["pretrain.accumulate=4"], params_path)
    with pytest.raises(InputError, match="batch_size 64 is not a multiple of accumulate 3"):
        overlay(None, ["pretrain.accumulate=3"], params_path)
    with pytest.raises(InputError, match=r"`pretrain\.accumulate`: 4, but .*contrastive compares all images"):
        overlay(None, ["objective.name=contrastive"], params_path)


def test_groups_divide_the_shards_and_the_iteration(params_path: Path) -> None:
    overlay(None, ["lmdb.shards=4", "pretrain.shard_groups=2"], params_path)
    with pytest.raises(InputError, match=r"`pretrain.shard_groups`: 2, but lmdb.shards lists 3; expected 1"):
        overlay(None, ["lmdb.shards=3"], params_path)
    with pytest.raises(InputError, match=r"lmdb.shards lists none"):
        overlay(None, ["lmdb.shards=1"], params_path)
    with pytest.raises(
        InputError, match=r"batch_size 6 is not a multiple of accumulate 1 times shard_groups 4"
    ):
        overlay(None, ["pretrain.shard_groups=4", "pretrain.batch_size=6"], params_path)


def test_the_last_of_the_caption_lengths_is_the_longest(params_path: Path) -> None:
    overlay(None, ["pretrain.caption_lengths=[12, 16, 22, 30]"], params_path)
    overlay(None, ["pretrain.compile=reduce-overhead"], params_path)
    for value, expected in (
        ("[12, 22]", r"the last is 22; expected textual_head\.max_caption_length, 30"),
        ("[30, 12]", "must rise"),
        ("[]", "at least 1 item"),
    ):
        with pytest.raises(InputError, match=f"`pretrain.caption_lengths`: .*{expected}"):
            overlay(None, [f"pretrain.caption_lengths={value}"], params_path)
    with pytest.raises(InputError, match="reduce-overhead keeps one set of gradients"):
        overlay(None, ["pretrain.accumulate=2"], params_path)


def test_benchmarks_compare_backbones_that_have_a_source(params_path: Path) -> None:
    names = "benchmarks.backbones=[virtex, random, imagenett]"
    sources = "baseline.sources={random: random, imagenet: imagenet}"
    with pytest.raises(InputError, match=r"`benchmarks\.backbones`: 'imagenett' .*did you mean `imagenet`"):
        overlay(None, [names, sources], params_path)
    overlay(None, [names.replace("tt", "t"), sources], params_path)
    imported = params_path.parent / "outputs" / "backbones" / "mine.safetensors"
    imported.parent.mkdir(parents=True)
    imported.touch()
    overlay(None, ["benchmarks.backbones=[virtex, mine]"], params_path)
    assert check_params(params_path)["benchmarks"].backbones == ["virtex", "mine"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sources", ["{a-b: random}", "{virtex: random}", "{mine: ''}"])
def test_baselines_with_unusable_names_or_sources(params_path: Path, sources: str) -> None:
    with pytest.raises(InputError, match=r"`baseline\.sources"):
        overlay(None, [f"baseline.sources={sources}", "benchmarks.backbones=[virtex]"], params_path)


@pytest.mark.parametrize(
    ("preset", "override", "expected"),
    [
        ("demmo", None, "did you mean `demo`?"),
        (None, "pretrain.batchsize=3", "did you mean `batch_size`?"),
        (None, "pretrain.batch_size", "expected section.key=value"),
        (None, "pretrain.batch_size=-1", "greater than or equal to 1"),
        (None, "download.folders.voc2007=caf\udce9", "params.yaml is UTF-8, and this is not"),
        (None, "pretrain.batch_size=[3", "--set pretrain.batch_size=[3: the value: not valid YAML"),
        (None, "pretrain.batch_size=-1", "(with --set pretrain.batch_size=-1; "),
        (None, "pretrain=3", "must be a section of keys"),
        (None, "pretrain.batch_size.x=3", "pretrain.batch_size"),
        (None, "lmdb.shards=-1", "1,024 at most, found -1"),
        (None, "lmdb.shards=2000", "1,024 at most, found 2000"),
        (None, "lmdb.shards=2.5", "1,024 at most, found 2.5"),
        (None, "lmdb.shards='4'", "1,024 at most, found '4'"),
    ],
)
def test_a_wrong_overlay_leaves_the_file_as_it_was(
    params_path: Path, preset: str | None, override: str | None, expected: str
) -> None:
    before = params_path.read_text(encoding="utf-8")
    with pytest.raises(InputError) as caught:
        overlay(preset, [override] if override else [], params_path, REPOSITORY / "presets")
    assert expected in str(caught.value)
    assert params_path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"baseline: [", "not valid YAML"),
        (b"", "expected sections of keys at the top level, found nothing"),
        ("# gr\u00f6\u00dfer\nbaseline:\n  seed: 0\n".encode("latin-1"), "line 1: not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_ours_is_named(params_path: Path, content: bytes, expected: str) -> None:
    params_path.write_bytes(content)
    for use in (check_params, lambda path: overlay(None, ["baseline.seed=1"], path)):
        with pytest.raises(InputError) as caught:
            use(params_path)
        assert str(caught.value).startswith(f"{params_path}: {expected}")


def test_null_sizes_follow_the_papers_rules() -> None:
    head = TextualHead(
        hidden_size=1024,
        num_layers=1,
        attention_heads=None,
        feedforward_size=None,
        norm="post",
        dropout=0.1,
        max_caption_length=30,
    )
    assert (head.num_heads, head.ffn_size) == (16, 4096)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("[[0.1, 32], [0.5, 48]]", "fractions begin with 0, rise and stay below 1"),
        ("[[0, 32], [0, 48]]", "fractions begin with 0, rise and stay below 1"),
        ("[[0, 32], [1, 48]]", "fractions begin with 0, rise and stay below 1"),
        ("[[0, 32], [0.5, 40]]", "sizes rise, the last to crop_size 48"),
        ("[[0, 56], [0.5, 48]]", "sizes rise, the last to crop_size 48"),
        ("[[0, 16], [0.5, 48]]", r"crop_sizes\.0\.1.*greater than or equal to 32"),
        ("[]", "fractions begin with 0, rise and stay below 1"),
    ],
)
def test_crops_grow_to_the_final_size(params_path: Path, sizes: str, message: str) -> None:
    overlay(None, ["augmentation.crop_sizes=[[0, 32], [0.5, 48]]"], params_path)
    with pytest.raises(InputError, match=message):
        overlay(None, [f"augmentation.crop_sizes={sizes}"], params_path)


def test_what_only_resnets_have_is_refused_of_timms_networks(params_path: Path) -> None:
    with pytest.raises(InputError, match=r"`backbone\.drop_path`: 0\.1, but resnet18 is no network of timm"):
        overlay(None, ["backbone.drop_path=0.1"], params_path)
    overlay(None, ["backbone.name=timm/convnext_atto", "backbone.drop_path=0.1"], params_path)
    for change, message in {
        "coco_segmentation.freeze_at=2": r"`coco_segmentation\.freeze_at`: 2 is .*expected 0 or 5",
        "voc_detection.engine=detectron2": r"`voc_detection\.engine`: detectron2 is .*expected torchvision",
    }.items():
        with pytest.raises(InputError, match=message):
            overlay(None, [change], params_path)
        overlay(None, [change, "benchmarks.detection_backbones=[]"], params_path)
        overlay(None, ["benchmarks.detection_backbones=[virtex]", *UNDONE], params_path)


UNDONE = ("coco_segmentation.freeze_at=5", "voc_detection.engine=torchvision")
