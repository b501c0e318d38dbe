import numpy as np

from components.benchmarks.detection.detections import Detections, from_json, to_json


def found(masks: object) -> Detections:
    boxes = np.array([[0.1, 1 / 3, 20.7, 31.9]], np.float32)
    return Detections("000012", boxes, np.array([0.7], np.float32), np.array([3], np.int64), masks)


def test_detections_come_back_from_another_process_as_they_were() -> None:
    nothing = Detections(7, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    given = [found(None), found([{"size": [4, 5], "counts": b"abc"}]), nothing]
    back = from_json(to_json(given))
    assert [image.image_id for image in back] == ["000012", "000012", 7]
    for image, expected in zip(back, given, strict=True):
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(image, name), getattr(expected, name))
            assert getattr(image, name).dtype == getattr(expected, name).dtype
    assert [image.masks for image in back] == [None, [{"size": [4, 5], "counts": "abc"}], []]
