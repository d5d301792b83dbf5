"""In: the source tree of Python's standard library. Out: its English prose, by module.

Docstrings, other long string literals (help topics, opcode descriptions) and block comments are
read with `ast` and line by line, never by importing; `.txt`, `.rst` and `.html` files beside them
are read as they are. Doctests, code, tables and headings are dropped paragraph by paragraph, test
packages whole. The order is that of sorted paths and source lines, and a paragraph appears once in
the whole corpus.
"""

import ast
import html
import re
import sysconfig
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED_FOLDERS = frozenset(
    ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "_bundled")
)
HELD_OUT_EVERY = 12  # one top-level name of so many is kept from training

# Prose is told from code and tables by how many of its words are these: code has next to none.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a all an and any are as at be been but by can do does for from has have if in into is it
        its may must no not of on one only or other same should so such than that the their them
        then there these they this to until used using was we when where which will with without
        would you your""",
    )
)
LEAST_FUNCTION_WORDS = 0.2
LEAST_LETTERS = 0.82  # of all characters, spaces counted
LEAST_WORDS = 5
LEAST_WORDS_IN_LITERAL = 12  # a string that is no docstring; shorter ones are mostly error messages

# A line that starts a paragraph of its own: a bullet, a number, `name: meaning`, `name -- meaning`.
ITEM = re.compile(r"\s*(?:[*+o•-]\s+|\(?\d{1,2}[.)]\s+|[@:]\w+[^:]*:\s|[\w./*]+\s*(?::|--|=>)\s)")
BULLET = re.compile(r"^\s*(?:[*+o•-]|\(?\d{1,2}[.)])\s+")
RULE = re.compile(r"^\s*([-=~^*_#+.\"])\1{2,}\s*$")
ROLE = re.compile(r":(?:\w+:)?\w+:(?=`)")
OLD_QUOTES = re.compile(r"`(\w[^`'\n]*)'")
EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}(\w[^*\n]*?)\*{1,2}(?![\w*])")
BLOCK_END = re.compile(r"</(?:p|li|dt|dd|h\d|pre|div|tr)>")
TAG = re.compile(r"<[^>]+>")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


@dataclass(frozen=True)
class Document:
    """The prose of one module: its dotted name and its paragraphs in source order."""

    module: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The paragraphs, each on a line of its own with an empty line between them."""
        return "\n\n".join(self.paragraphs)

    @property
    def is_held_out(self) -> bool:
        """Whether the document is kept from training: decided by a checksum of the top-level name.

        `_pydecimal` and `decimal`, or two modules of one package, always fall on the same side.
        """
        top = self.module.split(".")[0].removeprefix("_py").removeprefix("_")
        return zlib.adler32(top.encode()) % HELD_OUT_EVERY == 0


def standard_library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_corpus(root: Path | None = None) -> list[Document]:
    """Read the prose of every module under `root`, the standard library unless given."""
    root = root or standard_library()
    seen: set[str] = set()
    documents = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).with_suffix("").parts
        if path.suffix not in READERS or not SKIPPED_FOLDERS.isdisjoint(name[:-1]):
            continue
        paragraphs = []
        for paragraph in READERS[path.suffix](path.read_text(encoding="utf-8", errors="ignore")):
            key = re.sub(r"\W+", "", paragraph).lower()
            if key not in seen:
                seen.add(key)
                paragraphs.append(paragraph)
        if paragraphs:
            documents.append(Document(".".join(name), tuple(paragraphs)))
    return documents


def split_corpus(documents: Iterable[Document]) -> tuple[list[Document], list[Document]]:
    """Split into (train, held out) by module, see `Document.is_held_out`."""
    train: list[Document] = []
    held_out: list[Document] = []
    for document in documents:
        (held_out if document.is_held_out else train).append(document)
    return train, held_out


def prose_of_source(source: str) -> Iterator[str]:
    """Yield the prose of one Python file: docstrings, long literals, block comments, by line."""
    try:
        with warnings.catch_warnings(action="ignore"):  # invalid escapes in old modules
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # templates of lib2to3 and the like
    found = [*_strings(tree), *_comments(source)]
    for _, text in sorted(found, key=lambda item: item[0]):
        yield from paragraphs_of(text)


def prose_of_page(page: str) -> Iterator[str]:
    """Yield the prose of an HTML page."""
    text = BLOCK_END.sub("\n\n", re.sub(r"(?s)<(pre|script|style|head)\b.*?</\1>", "", page))
    yield from paragraphs_of(html.unescape(TAG.sub("", text)))


def paragraphs_of(text: str) -> Iterator[str]:
    """Yield the paragraphs of `text` that are prose, each on one line and without markup."""
    for block in re.split(r"\n\s*\n", text.expandtabs()):
        if re.search(r"(?m)^\s*(>>>|\.\.\. |\$ |\|)", block):
            continue
        lines: list[str] = []
        for line in [*block.splitlines(), None]:
            if lines and (line is None or ITEM.match(line) or RULE.match(line)):
                paragraph = _reflow(lines)
                if is_prose(paragraph):
                    yield paragraph
                lines = []
            if line and not RULE.match(line):
                lines.append(line)


def is_prose(paragraph: str) -> bool:
    """Whether a one-line paragraph is English sentences rather than code, a table or a heading."""
    words = WORD.findall(paragraph)
    if len(words) < LEAST_WORDS or not (paragraph[0].isalnum() or paragraph[0] in "\"'(_"):
        return False
    common = sum(word.lower() in FUNCTION_WORDS for word in words) / len(words)
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return (
        common >= LEAST_FUNCTION_WORDS
        and letters >= LEAST_LETTERS * len(paragraph)
        and paragraph[-1] in ".:!?)\"'"
    )


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                docstrings.add(node.body[0].lineno)
                yield node.body[0].lineno, text
    inside_f_strings = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.lineno not in docstrings
            and id(node) not in inside_f_strings
            and len(node.value.split()) >= LEAST_WORDS_IN_LITERAL
        ):
            yield node.lineno, node.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield runs of whole-line comments of one indentation, without their signs."""
    block: list[str] = []
    indent = start = 0
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        bare = line.lstrip()
        is_comment = bare.startswith("#")
        if block and not (is_comment and len(line) - len(bare) == indent):
            yield start, "\n".join(block)
            block = []
        if is_comment:
            if not block:
                indent, start = len(line) - len(bare), number
            block.append(bare.lstrip("#!").removeprefix(" "))


def _reflow(lines: list[str]) -> str:
    text = " ".join(" ".join(lines).split())
    text = EMPHASIS.sub(r"\1", ROLE.sub("", BULLET.sub("", text)))
    text = OLD_QUOTES.sub(r"'\1'", text)
    return text.replace("``", "").replace("`", "").removesuffix("::").strip()


READERS = {
    ".py": prose_of_source,
    ".txt": paragraphs_of,
    ".rst": paragraphs_of,
    ".html": prose_of_page,
}
