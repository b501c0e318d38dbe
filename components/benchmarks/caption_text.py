"""Caption words as the COCO caption evaluation counts them, without Java.

The published scores are computed on the words of Stanford's PTBTokenizer 3.4.1 (``-preserveLines
-lowerCase``) with punctuation left out. A fresh machine has no Java, so the Penn Treebank
conventions that matter to captions are rules of our own here, found by watching what that program
makes of captions: at each place the longest match wins, and the first rule among equals. Its
oddities are kept on purpose: ``shoes., and`` keeps its full stop, "1 1/2" is one token with a
no-break space inside, and ``-lrb-`` survives the removal of punctuation.

Of the 202,654 captions of COCO val2014 one differs: the program looks across the line's end, so that
a caption that ends in a single letter ("Branch St. 200 N.") keeps or loses its full stop by how the
next caption starts. Here it loses it, as it does before "A" or "The".
"""

import re
from collections.abc import Iterator

PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

_FRACTIONS = "½¼¾⅓⅔"
_ALNUM = rf"[^\W_{_FRACTIONS}]"
_LETTER = rf"[^\W\d_{_FRACTIONS}]"
_APOSTROPHE = r"['’\x92]"
_WORD_END = rf"(?!{_ALNUM})"


def _words(text: str) -> list[str]:
    return text.split()


def _any_of(words: list[str], ignore_case: bool = True) -> str:
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return f"(?i:{pattern})" if ignore_case else f"(?:{pattern})"


def _capitalised(words: list[str]) -> str:
    return _any_of([form for word in words for form in (word, word.upper())], ignore_case=False)


# Abbreviations that keep their full stop wherever they stand.
_ABBREVIATIONS = _words("""
    adm al ala alex apr ariz assn atty attys aug ave bancorp bhd bldg blvd brig bros calif capt cf cie cmdr co
    col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec esq est etc ext feb fla fri ft ga gen gov
    govs hon inc ind intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich minn mme
    mo mon mont mr mrs ms mt natl neb nev nov oct okla penn pfc ph plc pres prof profs pty pvt rd rep reps rev
    sen sens sep sept seq sgt spc sq sr st ste supt supts sys tel tenn thu thurs tue tues univ va vs vt wed
    wis wisc wm wyo""")
# Those that are also plain words, and count only with a capital.
_CAPITAL_ABBREVIATIONS = _words("Ark Del Ill La Mass Miss Ore Pa Tex Wash")
# Those that count only before a number.
_NUMBER_ABBREVIATIONS = _words("art ca fig figs no nos op pp prop")
# Words that open a sentence: a single letter before one of them loses its full stop.
_SENTENCE_STARTERS = _words("""
    A After An As At But He Her Here However If In It Last Many More Mr. Now Once One Other Our She Since So
    Some Such That The Their Then There These They This We What When While You""")
# Words written with an apostrophe that stay whole.
_WITH_APOSTROPHE = _words("""
    'cause 'em 'n 'til 'till c'est c'mon dunkin' e'er ev'ry li'l nat'l nor'easter o'o ol' s'mores
    somethin'""")

_STARTS_SENTENCE = rf"[ \t]+{_any_of(_SENTENCE_STARTERS)}{_WORD_END}"
_INITIALS = r"[A-Za-z](?:\.[A-Za-z])+"
_NUMBER = r"(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+)"
_SUFFIX = rf"{_APOSTROPHE}(?:[sdm]|re|ve|ll){_WORD_END}"
_ELISION = rf"[dlnoDLNO]{_APOSTROPHE}[A-Za-z]{{2,}}"
_WHOLE = _any_of(_WITH_APOSTROPHE).replace("'", _APOSTROPHE)
_HYPHEN = r"[-\u2010\u2011\u058a]"

_RULES = (
    # markup and addresses
    r"</?[A-Za-z][^<>\n]*>|<![^<>\n]*>",
    r"(?i:https?)://[^\s\"<>|()]+[^\s\"<>|.!?(){},-]",
    r"(?:www\.(?:[^\s\"<>|.!?(){},]+\.)+[A-Za-z]{2,4}|(?:[^\s\"`'<>|.!?(){},_$-]+\.)+(?:com|net|org|edu))"
    r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?",
    r"[A-Za-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}.]+",
    r"[@#][A-Za-z_][A-Za-z0-9_]*",
    # contractions
    rf"(?i:can(?=(not){_WORD_END})|(?:gon|wan)(?=(na){_WORD_END})|got(?=(ta){_WORD_END})"
    rf"|(?:gim|lem)(?=(me){_WORD_END})|{_APOSTROPHE}t(?=(is|was){_WORD_END}))",
    rf"(?i:{_LETTER}+?(?=(n{_APOSTROPHE}t){_WORD_END}))",
    rf"(?i:n{_APOSTROPHE}t{_WORD_END})",
    rf"(?i:{_LETTER}{_ALNUM}*(?=({_SUFFIX})))",
    rf"(?i:{_SUFFIX})",
    # words
    rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*",
    rf"{_ALNUM}+(?:_{_ALNUM}+)*",
    # apostrophes inside words
    rf"{_ELISION}|[A-HJ-XZ]{_APOSTROPHE}[A-Za-z]{{2,}}",
    rf"[A-Za-z]+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouA-Z][A-Za-z]*",
    rf"[lLdDjJ]{_APOSTROPHE}|[yY]{_APOSTROPHE}(?={_LETTER})",
    rf"(?i:{_APOSTROPHE}n{_APOSTROPHE}|{_WHOLE}{_WORD_END})",
    rf"{_APOSTROPHE}(?:[2-9]0s{_WORD_END}|\d\d(?!\S))",
    # hyphens and slashes
    rf"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:{_INITIALS}\.|{_ALNUM}+))+|{_ALNUM}+(?:{_HYPHEN}{_ALNUM}+)+",
    rf"(?:{_ELISION}|{_ALNUM}+)(?:-(?:{_ELISION}|{_ALNUM}+))+",
    rf"{_ALNUM}+(?:-{_LETTER}+){{0,2}}(?:/{_ALNUM}+(?:-{_LETTER}+){{0,2}}){{1,2}}",
    # numbers, dates, fractions, telephones
    rf"[-+]?{_NUMBER}",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
    r"(?:\d{1,4}[- \xa0])?\d{1,4}/(?:1?[0-9]|[2-9]0|100)(?!\d)",
    r"(?:\(\d{2,3}\)[ \xa0]?|\+{0,2}(?:\d{2,4}[- \xa0])?\d{2,4}[- \xa0])\d{3,4}[- \xa0]?\d{3,5}",
    r"\+{0,2}(?:\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}",
    r"[A-Z]{1,2}\$",
    # full stops that belong to the word
    r"(?i:ph\.d\.)",
    rf"{_INITIALS}\.|[A-Za-z]\.(?!{_STARTS_SENTENCE}|\s*$)",
    rf"(?:{_any_of(_ABBREVIATIONS)}|{_capitalised(_CAPITAL_ABBREVIATIONS)})\.",
    rf"{_any_of(_NUMBER_ABBREVIATIONS)}\.(?=[ \t]*\d)",
    rf"{_ALNUM}+(?:-{_ALNUM}+)*\.(?=[,;:])",
    # punctuation
    r"\.{3,}|…|[!?]+|-{2,}|[–—]|``|''|\*+|_+|<<|>>",
    r"[<>]?[:;=]['o-]?[()\[\]DPdpO|@](?!\w)",
    r"(?i:&(?:amp|lt|gt|quot|nbsp|apos);)|(?:[A-Z](?:&[A-Z])+|[A-Z]+&[A-Z]+)",
    r"(?i:c\+\+)|[CcFf]#",
)
_COMPILED = tuple(re.compile(rule) for rule in _RULES)
_SPACE = re.compile(r"\s+")
_PLAIN = re.compile(r"[A-Za-z]+(?![^\s])")
_TWO_WORDS = frozenset(_words("cannot gonna wanna gotta gimme lemme"))

_NORMAL_FORMS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "\"": "''", "“": "``", "”": "''", "‘": "`", "’": "'", "«": "``", "»": "''", "„": "``",
    "–": "--", "—": "--", "…": "...", "£": "#", "€": "$", "¢": "cents",
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&nbsp;": "", "&apos;": "'",
}  # fmt: skip
_CURLY_SUFFIX = re.compile(r"n?[’\x92](?:[stdm]|re|ve|ll)")
_SMILEY = re.compile(r"[<>]?[:;=].*[()]")
_LONG_DASH = re.compile(r"-{2,4}")
_DOTS = re.compile(r"\.{3,}")


def caption_words(caption: str) -> list[str]:
    """Split one caption into lower-case words, punctuation left out.

    Line breaks count as spaces. The words never contain ASCII spaces; ``" ".join(words)`` is the form
    that the published scorers read.
    """
    words = (_normal_form(token) for token in _tokens(caption.replace("\n", " ")))
    return [word for word in words if word and word not in PUNCTUATION]


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if space := _SPACE.match(text, position):
            position = space.end()
            continue
        token = _next_token(text, position)
        yield token
        position += len(token)


def _next_token(text: str, position: int) -> str:
    plain = _PLAIN.match(text, position)
    if plain and plain.group().lower() not in _TWO_WORDS:
        return plain.group()
    found = [match for rule in _COMPILED if (match := rule.match(text, position))]
    return max(found, key=_reach).group() if found else text[position]


def _reach(match: re.Match[str]) -> int:
    """End of the match, or of what it looked ahead at and captured: that counts as matched length."""
    return max(match.end(group) for group in range(match.re.groups + 1))


def _normal_form(token: str) -> str:
    token = token.lower()
    if token in _NORMAL_FORMS:
        return _NORMAL_FORMS[token]
    if _LONG_DASH.fullmatch(token):
        return "--"
    if _DOTS.fullmatch(token):
        return "..."
    if _CURLY_SUFFIX.fullmatch(token):
        return token.replace("’", "'").replace("\x92", "'")
    if token[0] in "(+0123456789<":
        token = token.replace(" ", "\xa0")
    if _SMILEY.fullmatch(token) or token[0] == "(":
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token
