"""What is said in which file: LJSpeech, or a directory that is laid out like it.

DIR/metadata.csv    ID|text|text with numbers spelled out, a line each
DIR/wavs/ID.wav
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ramda_cli.errors import DataError

METADATA = "metadata.csv"

_WHERE = (
    "download LJSpeech-1.1 from https://keithito.com/LJ-Speech-Dataset/, unpack it, and name the"
    " directory that holds metadata.csv and wavs"
)
_PLAIN = str.maketrans("“”‘’–—", "\"\"''--")


@dataclass(frozen=True)
class Utterance:
    """One recording.

    Attributes:
        name: of it, without directory and suffix.
        path: of the recording.
        ids: of the characters that are said.
    """

    name: str
    path: Path
    ids: tuple[int, ...]


def read_utterances(directory: Path, metadata: str, characters: str) -> list[Utterance]:
    """Return the utterances that a file lists, in its order.

    Args:
        directory: that holds it.
        metadata: its name.
        characters: that the model knows; others are left out.

    Raises:
        DataError: a file is missing, or a line does not say what it must.
    """
    path = directory / metadata
    lines = _lines(path)
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *texts = line.rstrip("\r").split("|")
        if not texts or not name or Path(name).name != name:
            raise DataError(
                f"line {number} of {path} is not ID|text|normalised text",
                hint="mend the line; an ID is the name of a file in wavs, without .wav",
            )
        ids = to_ids(texts[-1], characters)
        if not ids:
            raise DataError(
                f"line {number} of {path} says nothing that the model can read: {texts[-1]!r}",
                hint=f"spell it in these characters, or delete the line: {characters}",
            )
        recording = directory / "wavs" / f"{name}.wav"
        if not recording.is_file():
            raise DataError(f"{path} names {recording}, which does not exist", hint=_WHERE)
        found.append(Utterance(name, recording, ids))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.name == METADATA:
            raise DataError(f"there is no {path}", hint=_WHERE) from error
        raise DataError(
            f"{path.parent} has no file {path.name!r} that lists utterances",
            hint=f"--train-split and --val-split name files beside {METADATA}, written like it; a"
            " part of one has to be a file of its own",
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not in UTF-8", hint="save it in that encoding; iconv -t UTF-8 can"
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", hint="it must be a readable text file"
        ) from error


def to_ids(text: str, characters: str) -> tuple[int, ...]:
    """Return the ids of a text's characters, in small letters and without accents; 0 is none's."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN)).lower()
    return tuple(characters.index(c) + 1 for c in decomposed if c in characters)


def fingerprint(utterances: list[Utterance]) -> str:
    """Return a digest that changes with the texts, and with names and sizes of the recordings."""
    facts = [(one.name, one.ids, one.path.stat().st_size) for one in utterances]
    return hashlib.sha256(repr(facts).encode()).hexdigest()
