import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from components.core.errors import InputError
from components.data import image as image_module
from components.data import transforms
from components.data.image import Pixels, resize
from components.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from components.data.transforms import EvalTransform, TrainTransform, sample_crop, swap_sides

SCALE, RATIO = (0.2, 1.0), (0.75, 4 / 3)


@pytest.fixture
def pixels() -> Pixels:
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.integers(0, 256, (3, 6, 8), dtype=np.uint8))
    return tv.resize(coarse, [60, 80]).permute(1, 2, 0).contiguous().numpy()


def as_tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a cat left of a dog on the right", "a cat right of a dog on the left"),
        ("Left of it, RIGHT there.", "Right of it, LEFT there."),
        (
            "a bright light, the leftmost of the copyrighted",
            "a bright light, the leftmost of the copyrighted",
        ),
        ("on a left-hand side,right?", "on a right-hand side,left?"),
        ("", ""),
    ],
)
def test_sides_are_swapped_as_whole_words(before: str, after: str) -> None:
    assert swap_sides(before) == after
    assert swap_sides(after) == before


@pytest.mark.parametrize("size", [(60, 80), (300, 40), (30, 500), (1, 1), (2, 300)])
def test_crops_lie_inside(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = sample_crop(size, SCALE, RATIO, rng)
        assert height >= 1
        assert width >= 1
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width


def test_crops_are_distributed_as_torchvisions() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    theirs_of = RandomResizedCrop(10, SCALE, RATIO)
    image = torch.empty(3, 90, 160)
    ours = np.array([sample_crop((90, 160), SCALE, RATIO, rng) for _ in range(3000)], dtype=float)
    theirs = np.array(
        [
            [drawn[name] for name in ("top", "left", "height", "width")]
            for drawn in (theirs_of.make_params([image]) for _ in range(3000))
        ],
        dtype=float,
    )
    standard_error = theirs.std(axis=0) / np.sqrt(3000)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5 * standard_error).all()
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.1)


def test_an_image_too_long_for_the_ratios_is_cropped_in_its_centre() -> None:
    assert sample_crop((30, 3000), (0.9, 1.0), RATIO, np.random.default_rng(0)) == (0, 1480, 30, 40)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_torchvisions(pixels: Pixels, name: str, factor: float) -> None:
    ours = as_tensor(getattr(transforms, f"adjust_{name}")(pixels, factor)).int()
    theirs = getattr(tv, f"adjust_{name}")(as_tensor(pixels), factor).int()
    assert (ours - theirs).abs().max() <= 2


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.04, 0.25])
def test_hue_turns_as_torchvisions(pixels: Pixels, shift: float) -> None:
    ours = as_tensor(transforms.adjust_hue(pixels, shift)).int()
    theirs = tv.adjust_hue(as_tensor(pixels), shift).int()
    assert (ours - theirs).abs().float().mean() < 2
    assert (ours - as_tensor(pixels).int()).abs().float().mean() > 5


def test_normalisation_is_torchvisions(pixels: Pixels) -> None:
    scaled = tv.to_dtype(as_tensor(pixels), torch.float32, scale=True)
    expected = tv.normalize(scaled, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(transforms.normalise(pixels), expected, rtol=1e-5, atol=1e-6)
    assert transforms.normalise(pixels).is_contiguous()


def test_the_same_generator_gives_the_same_sample(pixels: Pixels, augmentation) -> None:
    transform = TrainTransform(augmentation)
    first, caption = transform(pixels, "on the left", np.random.default_rng([1, 2]))
    again, same_caption = transform(pixels, "on the left", np.random.default_rng([1, 2]))
    other, _ = transform(pixels, "on the left", np.random.default_rng([1, 3]))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert caption == same_caption
    assert not np.array_equal(first, other)


def test_global_generators_are_left_alone(pixels: Pixels, augmentation) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    TrainTransform(augmentation)(pixels, "", np.random.default_rng(0))
    assert (torch.rand(1), np.random.rand()) == expected


def test_a_flip_goes_with_the_words(pixels: Pixels, augmentation) -> None:
    plain = augmentation.model_copy(update={"jitter_probability": 0.0, "crop_scale": (0.5, 0.5)})
    never = TrainTransform(plain.model_copy(update={"flip_probability": 0.0}))
    always = TrainTransform(plain.model_copy(update={"flip_probability": 1.0}))
    image, caption = never(pixels, "a cup left of it", np.random.default_rng(5))
    mirrored, swapped = always(pixels, "a cup left of it", np.random.default_rng(5))
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    assert (caption, swapped) == ("a cup left of it", "a cup right of it")


def test_probabilities_are_kept(pixels: Pixels, augmentation) -> None:
    transform = TrainTransform(augmentation)
    captions = [transform(pixels, "left", np.random.default_rng([9, n]))[1] for n in range(400)]
    assert 160 < captions.count("right") < 240


def test_eval_resizes_the_shorter_side_and_crops_the_centre() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 26:54] = 255  # a centred column: the crop's 20 pixels, and what the filter sees beside them
    tensor = EvalTransform(20, 10)(image)
    white = transforms.normalise(np.full((10, 10, 3), 255, np.uint8))
    assert tensor.shape == (3, 10, 10)
    torch.testing.assert_close(tensor, white, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(50, 50), (31, 97), (97, 31), (7, 9)])
def test_eval_takes_any_size(size: tuple[int, int]) -> None:
    assert EvalTransform(24, 24)(np.zeros((*size, 3), np.uint8)).shape == (3, 24, 24)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"crop_size 30.*image_size 20"):
        EvalTransform(20, 30)


def as_albumentations(image: Pixels, image_size: int, crop_size: int) -> Pixels:
    """SmallestMaxSize and CenterCrop, as the authors' DEFAULT_IMAGE_TRANSFORM has them."""
    height, width = image.shape[:2]
    scale = image_size / min(height, width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    top, left = (image.shape[0] - crop_size) // 2, (image.shape[1] - crop_size) // 2
    return image[top : top + crop_size, left : left + crop_size].astype(np.uint8, copy=False)


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (333, 500), (100, 131)])
def test_without_antialiasing_it_is_the_authors_code(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = transforms.normalise(as_albumentations(image, 256, 224))
    assert torch.equal(EvalTransform(256, 224, antialias=False)(image), expected)
    if size[0] > 256:
        assert not torch.allclose(EvalTransform(256, 224)(image), expected, atol=0.5)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 9_999)])
def test_a_thin_picture_is_cut_before_it_is_enlarged(size: tuple[int, int], monkeypatch) -> None:
    largest = []

    def recorded(pixels: Pixels, height: int, width: int, *options: bool) -> Pixels:
        largest.append(height * width)
        return resize(pixels, height, width, *options)

    monkeypatch.setattr(image_module, "resize", recorded)
    image = np.zeros((*size, 3), np.uint8)
    image[
        tuple(slice(length // 2 - 1, length // 2 + 1) if length > 5 else slice(None) for length in size)
    ] = 255
    tensor = EvalTransform(256, 224)(image)
    assert tensor.shape == (3, 224, 224)
    assert max(largest) <= 32 * 256**2
    assert tensor[:, 112, 112].min() > 1.5, "the middle is what is seen"


def test_a_picture_that_is_not_thin_is_resized_as_a_whole() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 640, 3), dtype=np.uint8)
    whole = resize(image, 64, 2048)[:, 992:1056]
    assert torch.equal(EvalTransform(64, 64)(image), transforms.normalise(whole))
