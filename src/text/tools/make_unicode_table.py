#!/usr/bin/env python3
"""Writes src/text/unicode_table.h: what the `tokenizers` library does to every
code point, asked of the library itself.

    python3 make_unicode_table.py > ../unicode_table.h

tokenizers takes its character properties from four places of different Unicode
versions (unicode_categories 0.1.1 for punctuation, nonspacing marks and control
characters; unicode-normalization-alignments 0.1.12 for NFD and combining marks;
Rust's char for white space and lower case; the regex crate for word
characters). No system library has that mixture, so the tables are complete and
not differences against one: what is installed does not change a token id.

The program refuses to run with another version than the one that the tests
compare with.
"""
import sys

import tokenizers
from tokenizers import normalizers, pre_tokenizers

VERSION = "0.22.1"
FLAGS = ["REMOVED", "SPACE", "PUNCT", "NONSPACING", "MARK", "WORD", "DECOMPOSES", "LOWERS"]
BLOCK = 128
CJK = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF),
       (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)]
# One character of each canonical combining class up to Unicode 15, to sort others against.
CLASS_OF = {0x334: 1, 0x16FF0: 6, 0x93C: 7, 0x3099: 8, 0x94D: 9, 0x5B0: 10, 0x5B1: 11,
            0x5B2: 12, 0x5B3: 13, 0x5B4: 14, 0x5B5: 15, 0x5B6: 16, 0x5B7: 17, 0x5B8: 18,
            0x5B9: 19, 0x5BB: 20, 0x5BC: 21, 0x5BD: 22, 0x5BF: 23, 0x5C1: 24, 0x5C2: 25,
            0xFB1E: 26, 0x64B: 27, 0x64C: 28, 0x64D: 29, 0x64E: 30, 0x64F: 31, 0x650: 32,
            0x651: 33, 0x652: 34, 0x670: 35, 0x711: 36, 0xC55: 84, 0xC56: 91, 0xE38: 103,
            0xE48: 107, 0xEB8: 118, 0xEC8: 122, 0xF71: 129, 0xF72: 130, 0xF74: 132,
            0x321: 202, 0x1DCE: 214, 0x31B: 216, 0x302A: 218, 0x316: 220, 0x59A: 222,
            0x302E: 224, 0x1D16D: 226, 0x5AE: 228, 0x301: 230, 0x315: 232, 0x35C: 233,
            0x35D: 234, 0x345: 240}


def bert(**on):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False,
                   lowercase=False)
    options.update(on)
    return normalizers.BertNormalizer(**options).normalize_str


nfd = normalizers.NFD().normalize_str


def swaps(first, second):
    """NFD puts second in front of first: both have a class, and first's is higher."""
    return first != second and nfd("a" + first + second) == "a" + second + first


def combining_class(c, references):
    """The class of a character that NFD leaves alone, 0 for a starter."""
    top, below = chr(references[-1][0]), chr(references[-2][0])
    if not swaps(top, c) and not swaps(c, below):
        return 0
    low, high = 0, len(references) - 1
    while low < high:  # the first reference that does not go in front of c
        middle = (low + high) // 2
        if swaps(chr(references[middle + 1][0]), c):
            high = middle
        else:
            low = middle + 1
    reference, value = references[low]
    assert not swaps(c, chr(reference)) and not swaps(chr(reference), c), hex(ord(c))
    return value


def ask():
    clean, strip = bert(clean_text=True), bert(strip_accents=True)
    chinese, lower = bert(handle_chinese_chars=True), normalizers.Lowercase().normalize_str
    accents = normalizers.StripAccents().normalize_str
    split_bert = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    split_punct = pre_tokenizers.Punctuation().pre_tokenize_str
    split_space = pre_tokenizers.WhitespaceSplit().pre_tokenize_str
    split_word = pre_tokenizers.Whitespace().pre_tokenize_str
    # Characters newer than the library's tables have no class there.
    references = [(c, k) for c, k in CLASS_OF.items() if c == 0x345 or swaps("\u0345", chr(c))]
    references.sort(key=lambda pair: pair[1])
    flags, classes, decomposed, lowered = [0] * 0x110000, [0] * 0x110000, {}, {}
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        c = chr(code)
        bits = set()
        space = [piece for piece, _ in split_space("a" + c + "a")] == ["a", "a"]
        punct = [piece for piece, _ in split_punct("a" + c + "a")] == ["a", c, "a"]
        pieces = [piece for piece, _ in split_bert("a" + c + "a")]
        assert pieces == (["a", "a"] if space else ["a", c, "a"] if punct else ["a" + c + "a"])
        pieces = [piece for piece, _ in split_word("a" + c + "!")]
        word = pieces == ["a" + c, "!"]
        assert word or pieces == (["a", "!"] if space else ["a", c + "!"])
        cleaned = clean(c)
        assert cleaned in ("", " " if space else c)
        is_cjk = any(a <= code <= b for a, b in CJK)
        assert chinese(c) == (" " + c + " " if is_cjk else c)
        accent = accents(c)
        assert accent in ("", c)
        parts = nfd(c)
        if 0xAC00 <= code <= 0xD7A3:
            s = code - 0xAC00
            jamo = chr(0x1100 + s // 588) + chr(0x1161 + s % 588 // 28)
            jamo += chr(0x11A7 + s % 28) if s % 28 else ""
            assert parts == jamo, hex(code)
        elif parts != c:
            bits.add("DECOMPOSES")
            decomposed[code] = [ord(x) for x in parts]
        else:
            stripped = strip(c)
            assert stripped in ("", c)
            if stripped == "":
                bits.add("NONSPACING")
            classes[code] = combining_class(c, references)
        small = lower(c)
        if small != c:
            bits.add("LOWERS")
            lowered[code] = [ord(x) for x in small]
            assert len(small) <= 2
        for name, on in (("REMOVED", cleaned == ""), ("SPACE", space), ("PUNCT", punct),
                         ("MARK", accent == ""), ("WORD", word)):
            if on:
                bits.add(name)
        flags[code] = sum(1 << FLAGS.index(name) for name in bits)
    for code, parts in decomposed.items():  # complete: what comes out does not decompose again
        assert len(parts) <= 4 and all(p not in decomposed for p in parts)
    return flags, classes, decomposed, lowered


def rows(values, per_line, form="{}"):
    for i in range(0, len(values), per_line):
        print("\t" + ", ".join(form.format(v) for v in values[i:i + per_line]) + ",")


def array(ctype, name, values, per_line, form="{}"):
    print(f"static const {ctype} {name}[{len(values)}] = {{")
    rows(values, per_line, form)
    print("};\n")


def main():
    if tokenizers.__version__ != VERSION:
        sys.exit(f"needs tokenizers {VERSION}, this is {tokenizers.__version__}")
    flags, classes, decomposed, lowered = ask()
    records = sorted(set(zip(flags, classes)))
    number = {record: i for i, record in enumerate(records)}
    assert len(records) <= 256 and records[0] == (0, 0)
    blocks, index = {}, []
    for start in range(0, 0x110000, BLOCK):
        block = tuple(number[record] for record in
                      zip(flags[start:start + BLOCK], classes[start:start + BLOCK]))
        index.append(blocks.setdefault(block, len(blocks)))
    assert len(blocks) <= 256
    print(f"""/*
 * unicode_table.h - what tokenizers {VERSION} does to every code point. Made by
 * tools/make_unicode_table.py; included by unicode.c alone.
 */
/* clang-format off */
#ifndef VAC_TEXT_UNICODE_TABLE_H
#define VAC_TEXT_UNICODE_TABLE_H

#include <stdint.h>

#define UNICODE_BLOCK {BLOCK}
""")
    print("/* Flags (VAC_CHAR_* of unicode.h) and canonical combining class. */")
    print(f"static const struct {{ uint8_t flags, combining_class; }} unicode_records[{len(records)}] = {{")
    rows(["{%d, %d}" % record for record in records], 10)
    print("};\n")
    print("/* Block of each code point / UNICODE_BLOCK, and record of each one in a block. */")
    array("uint8_t", "unicode_index", index, 24)
    array("uint8_t", "unicode_blocks", [r for block in blocks for r in block], 24)
    print("/* Complete canonical decompositions, Hangul aside, sorted: parts of key i lie at\n"
          " * decomposition_parts[decomposition_starts[i]], up to the start of i + 1. */")
    keys = sorted(decomposed)
    starts, parts = [0], []
    for key in keys:
        parts += decomposed[key]
        starts.append(len(parts))
    print(f"#define DECOMPOSITION_COUNT {len(keys)}")
    array("uint32_t", "decomposition_keys", keys, 12, "0x{:X}")
    array("uint16_t", "decomposition_starts", starts, 16)
    array("uint32_t", "decomposition_parts", parts, 12, "0x{:X}")
    print("/* Lower case: {code point, first, second or 0}, sorted. */")
    print(f"#define LOWER_COUNT {len(lowered)}")
    print(f"static const uint32_t lower_table[{len(lowered)}][3] = {{")
    rows(["{0x%X, 0x%X, 0x%X}" % (key, lowered[key][0], (lowered[key] + [0])[1])
          for key in sorted(lowered)], 4)
    print("};\n\n#endif")


if __name__ == "__main__":
    main()
