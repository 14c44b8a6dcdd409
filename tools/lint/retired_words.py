"""Refuses the words that `docs/glossary.md` has retired, wherever they are written."""

import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tools.lint.repository import DEPLOYED, Finding, sources

GLOSSARY: Final = Path("docs/glossary.md")
_TEXT_TOKENS: Final = {
    tokenize.COMMENT,
    tokenize.STRING,
    getattr(tokenize, "FSTRING_MIDDLE", -1),  # Python 3.12 and later
}
_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, kw_only=True)
class RetiredWord:
    """A row of the second table: the pattern, where it is refused, and the word to use."""

    pattern: re.Pattern[str]
    in_names_only: bool
    matches_whole_name: bool
    use: str

    def found_in_name(self, name: str) -> str | None:
        """The retired word in an identifier or a file's name."""
        match = self.pattern.fullmatch(name.strip("_")) if self.matches_whole_name else self._search(name)
        return match[0] if match else None

    def found_in_text(self, text: str) -> str | None:
        """The retired word in a line of prose."""
        match = None if self.in_names_only else self._search(text)
        return match[0] if match else None

    def _search(self, text: str) -> re.Match[str] | None:
        return self.pattern.search(words_of(text))


@dataclass(frozen=True, kw_only=True)
class Exemption:
    """A row of the third table: words that may stay in these files."""

    word: re.Pattern[str]
    files: str


@dataclass(frozen=True, kw_only=True)
class Glossary:
    """What the page says about words."""

    retired: tuple[RetiredWord, ...]
    exemptions: tuple[Exemption, ...]


def words_of(text: str) -> str:
    """`PaymentSweeper.last_run` as "payment sweeper.last run", so that one pattern fits every spelling."""
    return re.sub(r"[_-]", " ", _WORD_STARTS.sub(" ", text)).lower()


def read_glossary(page: str) -> Glossary:
    """Parse the second and the third table.

    Raises:
        ValueError: a row is not understood, so that a typing mistake never switches a rule off.
    """
    retired = []
    for pattern, where, use in _rows(page, "Retired words"):
        if where not in {"anywhere", "names"} or not use:
            raise ValueError(f"{GLOSSARY}: not understood: {pattern} | {where} | {use}")
        whole = re.search(r"[A-Z]", pattern) is not None
        retired.append(
            RetiredWord(
                pattern=re.compile(pattern if whole else rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])"),
                in_names_only=where == "names",
                matches_whole_name=whole,
                use=use,
            )
        )
    exemptions = [
        Exemption(word=re.compile(word), files=files) for word, files, _ in _rows(page, "Where a retired word stays")
    ]
    if not retired:
        raise ValueError(f"{GLOSSARY}: there is no table of retired words")
    return Glossary(retired=tuple(retired), exemptions=tuple(exemptions))


def check(root: Path) -> Iterator[Finding]:
    """Every retired word in the repository, with the word to use."""
    glossary = read_glossary((root / GLOSSARY).read_text())
    for file in sources(root):
        exempt = [each.word for each in glossary.exemptions if fnmatch(file.as_posix(), each.files)]
        seen: set[tuple[int, str]] = set()
        for line, found, use in _found(root, file, glossary.retired):
            if (line, found) in seen or any(word.fullmatch(found) for word in exempt):
                continue
            seen.add((line, found))
            yield Finding(file=file.as_posix(), line=line, text=f'"{found}" is retired: {use}')


def _found(root: Path, file: Path, retired: Iterable[RetiredWord]) -> Iterator[tuple[int, str, str]]:
    """Line, retired word and new word."""
    is_deployed = file.parts[0] in DEPLOYED
    for line, text, is_name in ((1, part, True) for part in file.with_suffix("").parts):
        yield from _in_piece(line, text, retired, is_name=is_name, is_deployed=is_deployed)
    for line, text, is_name in _pieces(root / file):
        yield from _in_piece(line, text, retired, is_name=is_name, is_deployed=is_deployed)


def _in_piece(
    line: int, text: str, retired: Iterable[RetiredWord], *, is_name: bool, is_deployed: bool
) -> Iterator[tuple[int, str, str]]:
    for each in retired:
        if each.in_names_only and not is_deployed:
            continue
        if (found := each.found_in_name(text) if is_name else each.found_in_text(text)) is not None:
            yield line, found, each.use


def _pieces(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is a name: identifiers and lines of prose."""
    if path.suffix != ".py":
        for line, text in enumerate(path.read_text().splitlines(), start=1):
            yield line, text, False
        return
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string, True
            elif token.type in _TEXT_TOKENS:
                for line, text in enumerate(token.string.splitlines(), start=token.start[0]):
                    yield line, text, False


def _rows(page: str, heading: str) -> Iterator[tuple[str, str, str]]:
    """The rows of the three-column table under a heading, without code marks."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        cells = [cell.replace("\\|", "|").strip().strip("`") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if len(cells) != 3:  # noqa: PLR2004 - the columns of both tables
            raise ValueError(f"{GLOSSARY}: three columns are needed: {line}")
        yield cells[0], cells[1], cells[2]
