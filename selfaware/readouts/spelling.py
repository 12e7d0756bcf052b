"""A single token as text that a reader can see, whatever the script. Knows a tokenizer, no weights."""

import re
from typing import Any

LOST = "\ufffd"
"""What decoders put where bytes are no whole character."""

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def spelled(tokenizer: Any, id: int) -> str:
    """The token's own text, spaces and control characters included; never empty.

    Bytes that are no whole character, as in a piece of a Chinese one, are written ⟨E9 99⟩. A space that the tokenizer leaves
    out of a text's beginning is put back. A token that decodes to nothing is given by its name in the vocabulary, and an id
    without a token as ⟨id 7⟩.
    """
    piece = tokenizer.convert_ids_to_tokens(id)
    if piece is None:
        return f"⟨id {id}⟩"
    if isinstance(piece, bytes):
        return _shown(piece) or f"⟨id {id}⟩"
    text = str(tokenizer.decode([id], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if LOST in text:
        raw = _bytes(piece)
        return text if raw is None else _shown(raw)
    spaces = len(piece) - len(piece.lstrip("▁"))  # SentencePiece's own sign, which is not the underscore
    if spaces:
        text = " " * spaces + text.lstrip(" ")
    return text or piece or f"⟨id {id}⟩"


def _shown(raw: bytes) -> str:
    made = ""
    while raw:
        try:
            made, raw = made + raw.decode(), b""
        except UnicodeDecodeError as error:
            made += f"{raw[: error.start].decode()}⟨{raw[error.start : error.end].hex(' ').upper()}⟩"
            raw = raw[error.end :]
    return made.replace("⟩⟨", " ")


def _bytes(piece: str) -> bytes | None:
    """The bytes that a piece of a byte-level vocabulary stands for; None where it is not of one."""
    fallback = _FALLBACK.fullmatch(piece)
    if fallback:
        return bytes([int(fallback[1], 16)])
    return bytes(BYTES[c] for c in piece) if all(c in BYTES for c in piece) else None


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level BPE (GPT-2) writes for each byte, and back: printable ones as they are, others from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + at): b for at, b in enumerate(others)}


BYTES = _byte_letters()
