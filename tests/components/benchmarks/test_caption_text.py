import gzip
import json
import lzma
from pathlib import Path

import pytest

from components.benchmarks.caption_text import caption_words

# What PTBTokenizer 3.4.1 itself makes of these, punctuation left out.
JAVA = {
    "A dog's bowl, and two cats.": "a dog 's bowl and two cats",
    "He can't; she won't! I cannot": "he ca n't she wo n't i can not",
    'The "stop" sign (red) reads: [GO]': "the stop sign -lrb- red -rrb- reads -lsb- go -rsb-",
    "A twin-hulled boat--no, a U.S. one at Penn St. and 5th": (
        "a twin-hulled boat no a u.s. one at penn st. and 5th"
    ),
    "shoes., and T.V. sets etc.": "shoes. and t.v. sets etc.",
    "1 1/2 slices at 3:30pm for $5.00": "1\xa01/2 slices at 3:30 pm for $ 5.00",
    "No. 5 and no. five": "no. 5 and no five",
    "vitamin c. The end": "vitamin c the end",
    "vitamin c. is": "vitamin c. is",
    "surfboard.The man !! ?": "surfboard.the man !!",
    "hors d'oeuvres at 6 o'clock, y'all": "hors d'oeuvres at 6 o'clock y' all",
    "rock 'n' roll of the '90s & M&M's, AT&T": "rock 'n' roll of the '90s & m&m 's at&t",
    "room/dining area w/ a his/her sink": "room/dining area w / a his/her sink",
    "10-29-2011 a 10-foot-tall café's naïve-looking sign": (
        "10-29-2011 a 10-foot-tall café 's naïve-looking sign"
    ),
    "it’s “curly” … ½ £5 — don’t": "it 's curly 1/2 # 5 do n't",
    "www.foo.com me@x.com #tag @joe :)": "www.foo.com me@x.com #tag @joe :-rrb-",
    "C++ and __ a_b * 50%": "c++ and __ a_b * 50 %",
    "two\nlines\tand  spaces ": "two lines and spaces",
}


@pytest.mark.parametrize("caption", JAVA)
def test_words_are_those_of_the_java_tokenizer(caption: str) -> None:
    assert " ".join(caption_words(caption)) == JAVA[caption]


@pytest.mark.parametrize("caption", ["", "   ", "...", "\n", "'"])
def test_a_caption_without_words_has_none(caption: str) -> None:
    assert caption_words(caption) == []


def test_takes_any_text() -> None:
    assert caption_words("日本の猫 😀 \x00 ü") == ["日本の猫", "😀", "\x00", "ü"]


def test_reproduces_the_java_tokens_of_the_example_evaluation(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "real" / "caption_metrics"
    expected = json.loads(gzip.decompress((folder / "fakecap_ptb_tokenized.json.gz").read_bytes()))
    annotations = json.loads(lzma.decompress((folder / "captions_val2014.json.xz").read_bytes()))[
        "annotations"
    ]
    references: dict[str, list[str]] = {image_id: [] for image_id in expected["gts"]}
    for annotation in annotations:
        if (image_id := str(annotation["image_id"])) in references:
            references[image_id].append(" ".join(caption_words(annotation["caption"])))
    results = json.loads((folder / "captions_val2014_fakecap_results.json").read_bytes())
    hypotheses = {str(row["image_id"]): [" ".join(caption_words(row["caption"]))] for row in results}
    assert {image_id: sorted(rows) for image_id, rows in references.items()} == {
        image_id: sorted(rows) for image_id, rows in expected["gts"].items()
    }
    assert hypotheses == expected["res"]
