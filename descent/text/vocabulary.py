"""What BERT's tokenizers have beside their pieces: the list of them in vocab.txt, and marks around a text.

[CLS] text [SEP]        [CLS] text [SEP] second [SEP], whose tokens are of segment 0, then 1
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from descent.errors import CorruptArtifact
from descent.text.tokenizer import Tokenizer

__all__ = ["ROLES", "VOCABULARY", "from_vocabulary", "set_marks"]

VOCABULARY = "vocab.txt"
ROLES = {
    "[PAD]": "pad_token",
    "[UNK]": "unk_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
}
"""A mark of BERT's -> what transformers calls its role."""
_LARGEST = 64 * 2**20
_NEEDED = ("[UNK]", "[CLS]", "[SEP]")


def from_vocabulary(path: Path, lowercase: bool = True) -> Tokenizer:
    """The tokenizer of a BERT that was published with a list of its pieces alone.

    J. Devlin et al., arXiv:1810.04805, and its code: text is cut at blanks and signs, each Chinese character
    is a word, and words are cut into the longest pieces known, `##` before all but the first.

    Args:
        path: vocab.txt, a piece a line; its number is its id.
        lowercase: also takes accents away; the models called uncased, and the Chinese ones, do.

    Raises:
        CorruptArtifact: the file is no such list.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CorruptArtifact(f"{path} is too large for a vocabulary")
        pieces = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path} cannot be read as a vocabulary: {error}") from None
    pieces = [piece.removesuffix("\r") for piece in pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    missing = [mark for mark in _NEEDED if mark not in ids]
    if missing or len(ids) < len(pieces):
        wrong = f"there is no {missing[0]}" if missing else "a piece stands there twice"
        raise CorruptArtifact(f"{path} is not the vocabulary of a BERT: {wrong}")
    library = Library(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(prefix="##")
    library.add_special_tokens([mark for mark in ROLES if mark in ids])
    return Tokenizer(library.to_str())


def set_marks(path: Path) -> None:
    """Makes a tokenizer.json with BERT's marks put them around texts, where it says nothing of it.

    Descent puts them itself; other libraries ask the file.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in spec.get("added_tokens", [])}
    if spec.get("post_processor") is not None or not {"[CLS]", "[SEP]"} <= ids.keys():
        return
    library = Library.from_file(str(path))
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, ids[mark]) for mark in ("[CLS]", "[SEP]")],
    )
    path.write_text(library.to_str(), encoding="utf-8")
