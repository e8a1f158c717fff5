"""Make the fallback fonts in this folder: `python make_fonts.py NOTO_FOLDER TWEMOJI_WOFF2`; needs fonttools, brotli.

Flutter's engine draws what Roboto lacks with fonts of its own list, named by path: a family, or for emoji a slice of
one. Which characters it seeks in which slice is packed into main.dart.js (`noto_font_encoding.dart` of the engine
has the format); our slices are cut by the same table, so the one file it asks for holds the glyph.

NOTO_FOLDER: Debian's fonts-noto-core (/usr/share/fonts/truetype/noto). TWEMOJI_WOFF2: of the npm package
twemoji-colr-font. Run it again after a new Flet version; the licences are in this folder.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

HERE = Path(__file__).parent
SCRIPTS = (
    "Devanagari", "Arabic", "Hebrew", "Bengali", "Gujarati", "Gurmukhi", "Kannada", "Malayalam", "Oriya", "Tamil",
    "Telugu", "Sinhala", "Thai", "Georgian", "Armenian", "Khmer", "Lao", "Symbols", "Symbols2",
)


def engine_table() -> dict[str, set[int]]:
    """Path of each fallback font → the code points that the engine seeks in it."""
    spec = importlib.util.find_spec("flet_web")
    assert spec is not None
    assert spec.origin is not None
    script = (Path(spec.origin).parent / "web" / "main.dart.js").read_text(encoding="utf-8")
    paths = re.findall(r'"Noto [^"]+","(noto[^"]+\.woff2)"', script)
    packed_sets = max(re.findall(r'"([0-9a-z,]{20000,})"', script), key=len)
    packed_ranges = max(re.findall(r'"([0-9a-zA-Z]{20000,})"', script), key=len)
    sets = []
    for packed in packed_sets.split(","):
        index, number, members = -1, 0, []
        for sign in packed:
            if sign.isdigit():
                number = number * 10 + int(sign)
            else:
                index += number * 26 + ord(sign) - ord("a") + 1
                number = 0
                members.append(index)
        sets.append(members)
    covers: list[set[int]] = [set() for _ in paths]
    start, size, number = 0, 1, 0
    for sign in packed_ranges:
        if sign.isdigit():
            number = number * 10 + int(sign)
        elif sign.islower():
            size, number = number * 26 + ord(sign) - ord("a") + 2, 0
        else:
            for font in sets[number * 26 + ord(sign) - ord("A")]:
                covers[font].update(range(start, start + size))
            start, size, number = start + size, 1, 0
    assert start == 0x110000, "the engine packs its table in another way now"
    return dict(zip(paths, covers, strict=True))


def write(source: Path, target: Path, code_points: set[int] | None) -> None:
    options = subset.Options(
        flavor="woff2", hinting=False, layout_features=["*"], notdef_outline=True, name_IDs=[0, 1, 2, 13, 14])
    font = TTFont(source)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=code_points if code_points is not None else set(font.getBestCmap()))
    subsetter.subset(font)
    subset.save_font(font, str(target), options)
    sys.stdout.write(f"{target.name}: {target.stat().st_size:,} bytes, {len(font.getBestCmap() or ())} characters\n")


def main(noto: Path, twemoji: Path) -> None:
    emoji: set[int] = set()
    symbols: set[int] = set()
    for path, code_points in engine_table().items():
        if path.startswith("notocoloremoji/"):
            emoji |= code_points
            write(twemoji, HERE / f"notocoloremoji.{path.split('.')[-2]}.woff2", code_points | {0x200D, 0xFE0F})
        elif path.startswith("notosanssymbols"):
            symbols |= code_points
    # What stands in both, such as a heart, the engine takes from the symbols, which have no colour: so the app asks
    # for this font first. Below U+2190 are digits and signs that belong to the text.
    both = {point for point in emoji & symbols if point >= 0x2190}
    write(twemoji, HERE / "emojisymbols.woff2", both | {0x200D, 0xFE0F})
    for script in SCRIPTS:
        write(noto / f"NotoSans{script}-Regular.ttf", HERE / f"notosans{script.lower()}.woff2", None)
    write(noto / "NotoSans-Regular.ttf", HERE / "notosans.woff2", None)
    write(noto / "NotoSans-Regular.ttf", HERE / "none.woff2", {0x20})  # for every family that is not here


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
