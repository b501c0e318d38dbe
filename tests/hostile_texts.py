"""Texts as strangers write them (captions, names of classes, files and presets, messages), for all tests."""

RUN = "document.documentElement.dataset.ran='yes'"  # what would show that one of them ran

MARKUP = (
    f"<script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f"</text></svg></style></title></textarea><svg/onload={RUN}>",
    f"\"'><b onmouseover={RUN} autofocus onfocus={RUN} tabindex=1>",
    f'<iframe src="javascript:{RUN}"></iframe>',
    f'<a href="javascript:{RUN}">here</a>',
    "<style>* { display: none }</style>",
    "<!-- ",
    "]]> {{ 7 * 7 }} {% raw %} ${7 * 7} &lt;b&gt;",
)
MARKDOWN = (
    f"[here](javascript:{RUN})",
    "![a](http://192.0.2.1/x.png)",
    "[here]: http://192.0.2.1 'title'",
    "<http://192.0.2.1>",
    "\\<b>bold\\</b> \\",
    "a | b || c",
    "two\nlines\r\nand\u2028more",
    "# heading",
    "1. item",
    "```",
)
TERMINAL = (
    "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "back\x08\x08", "\rover", "nul\x00", "bell\a",
)  # fmt: skip
DIRECTION = (
    "\u202egpj.exe",
    "\u2066isolated",
    "\u200fright",
    "\u200b\u200d\ufeff",
    "Z" + "\u0351\u036b" * 6,
)
FORMULAS = (
    "=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+1", "-2+3", "\t=1+1", "\r=1", "\uff1d1+1", "'quoted",
    '=HYPERLINK("http://192.0.2.1","here")',
)  # fmt: skip
LONG = ("w" * 3000, "words " * 400)

TEXTS = (*MARKUP, *MARKDOWN, *TERMINAL, *DIRECTION, *FORMULAS, *LONG)
HALF = "half a \ud83d character"  # which no file takes
