#!/usr/bin/env python3
"""Compares the tokenizer with the tokenizers library on random texts.

    python3 compare_tokens.py ENCODE_LINES TOKENIZER_JSON [TEXTS [SEED]]

ENCODE_LINES is the built tests/unit/encode_lines. Prints each difference and,
last, how many texts of how many characters were compared; exits with 1 if any
differs. Every single code point is compared first, alone and inside a word.
"""
import random
import struct
import subprocess
import sys

import make_texts
from tokenizers import Tokenizer

BATCH = 20000
MARKS = [0x300, 0x301, 0x307, 0x308, 0x323, 0x327, 0x328, 0x334, 0x345, 0x5B4, 0x64B, 0x651, 0x93C,
         0x94D, 0xE38, 0xE48, 0x3099, 0x1D165, 0x1D16D, 0x200D, 0xFE0F, 0x898, 0x1DCE]
PIECES = ["[MASK]", "[CLS]", "[SEP]", "[UNK]", "the", " the ", "fox", "fox jumps", "fox jumps over",
          "Café", "café", "über", "Über", "GPU", "gpu", "中", " a ", "\n", "-", "\u3000", "\u0085", "##ing",
          "İ", "ΣΑΣ", "각", "\u1100\u1161\u11a8", "\x1c", "\u180e", "\ufffd", "\0"]


def every_code_point():
    for code in range(0x110000):
        if not 0xD800 <= code <= 0xDFFF:
            yield chr(code)
            yield "a" + chr(code) + "\u0323\u0301" + "b"


def random_texts(count, rng):
    for _ in range(count):
        kind = rng.randint(0, 5)
        if kind == 0:
            yield make_texts.mixed(rng, rng.randint(1, 80))
        elif kind == 1:
            yield make_texts.anything(rng, rng.randint(1, 40))
        elif kind == 2:
            yield make_texts.sentence(rng, rng.randint(1, 20))
        elif kind == 3:
            letters = [rng.choice("aeodiIE가か\u05d1ัก") for _ in range(rng.randint(1, 12))]
            yield "".join(c + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(0, 6)))
                          for c in letters)
        elif kind == 4:
            yield "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12)))
        else:
            text = make_texts.sentence(rng, rng.randint(1, 6)) + rng.choice(PIECES)
            yield text + make_texts.mixed(rng, rng.randint(1, 20)) + rng.choice(PIECES)


def batches(texts):
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def ours(program, path, batch, limit, side, mode):
    data = b"".join(struct.pack("=I", len(b)) + b for b in (t.encode() for t in batch))
    done = subprocess.run([program, path, str(limit), side, mode], input=data,
                          stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split("\n")[:-1]


def theirs(tokenizer, batch, limit, side, mode):
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit:
        tokenizer.enable_truncation(limit, direction=side)
    for text in batch:
        encoding = tokenizer.encode(text, add_special_tokens=mode == "special")
        yield " ".join(f"{i}:{t}" if t else str(i) for i, t in
                       zip(encoding.ids, encoding.type_ids))


def main():
    program, path = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 200000
    rng = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    tokenizer = Tokenizer.from_file(path)
    compared = characters = different = 0
    for source in (every_code_point(), random_texts(count, rng)):
        for batch in batches(source):
            run = rng.choice([(0, "right", "special"), (0, "right", "special"),
                              (16, "right", "special"), (16, "left", "special"), (9, "left", "plain")])
            lines = ours(program, path, batch, *run)
            assert len(lines) == len(batch)
            for text, mine, truth in zip(batch, lines, theirs(tokenizer, batch, *run)):
                compared += 1
                characters += len(text)
                if mine != truth:
                    different += 1
                    if different <= 20:
                        print(f"{text!r} {run}\n  ours   {mine}\n  theirs {truth}")
    print(f"{path.split('/')[-1]}: {compared} texts, {characters} characters, {different} differences")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
