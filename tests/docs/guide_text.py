"""What the guide's pages say one can type, and what is answered."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*REPOSITORY.glob("docs/**/*.md"), REPOSITORY / "README.md", *REPOSITORY.glob("datasets/**/*.md")]
)
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.M | re.S)
_INLINE = re.compile(r"`((?:virtex|dvc|make) [^`]+)`")
_PROGRAMS = ("virtex", "dvc", "make", "python", "torchrun")
_VARIABLE = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Command:
    """A command as a page has it, split into words, without variables and what its output is sent to."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def fences(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        (match["language"], _outdented(match["body"], match["indent"])) for match in _FENCE.finditer(text)
    ]


def commands() -> list[Command]:
    """All commands of our programs: in fenced blocks of sh, and between backquotes.

    Those that the page shows with their error are test_troubleshooting's.
    """
    found: list[Command] = []
    for page in PAGES:
        name = str(page.relative_to(REPOSITORY))
        blocks = fences(page)
        for (language, body), (_, answer) in zip(blocks, [*blocks[1:], ("", "")], strict=False):
            if language in ("sh", "bash") and not answer.startswith("virtex: error: "):
                found += [Command(name, words) for words in _typed(body)]
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for inline in _INLINE.findall(prose):
            if "..." not in inline:
                found += [Command(name, words) for words in _typed(" ".join(inline.split()))]
    return found


def typed(body: str) -> list[tuple[str, ...]]:
    """The words of each command of a block."""
    return list(_typed(body))


def _typed(body: str) -> Iterator[tuple[str, ...]]:
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for end, word in enumerate(words):
            if word in ("|", ">", "&&", ";"):
                words = words[:end]
                break
        while words and _VARIABLE.match(words[0]):
            words = words[1:]
        if words and Path(words[0]).name in _PROGRAMS:
            yield (Path(words[0]).name, *words[1:])


def _outdented(body: str, indent: str) -> str:
    return "\n".join(line.removeprefix(indent) for line in body.splitlines())
