#!/usr/bin/env python3
"""Writes texts.json: 500 texts that are hard on a tokenizer, the raw source of
the golden token ids and embeddings. Needs nothing but Python and gives the
same file always.

    python3 make_texts.py > texts.json
"""
import json
import random
import sys

COUNT = 500
WORDS = ("the of and to in is model memory vector embedding sentence transformer loads unloads "
         "quickly brown fox jumps over lazy dog unaffable internationalization tokenization "
         "antidisestablishmentarianism don't it's e-mail Zürich naïve café coöperate résumé "
         "GPU CPU 8GB 3.14 1,000,000 2024-02-29 12:34:56 v1.2.3-rc1 C++ F# .NET node.js "
         "a I x 42 ! ? ... -- (yes) [no] {maybe} <tag> 'quoted' \"double\" 50% $9.99 €5 #hash "
         "@user foo_bar fooBar FOO_BAR ABCDEFG lowercase UPPERCASE MiXeD").split()

EXACT = [
    "", "a", "Z", "é", "中", ".", " ", "\n", "\t", "0", "\u0000", "\ufffd", "\u200b", "\ufeff",
    "    ", " a", "a ", "\r\n", "\u00a0", "a\u00a0b", "a\u0000b", "a\ufffdb", "\ufffd\u0000",
    "This is an example sentence", "Each sentence is converted",
    "The quick brown fox jumps over the lazy dog.",
    "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[CLS] [SEP]x[MASK]", "[MASK][MASK]",
    "[cls] [Sep] [mask]", "x[CLS]y", " [MASK] ", "[MASK", "MASK]", "[[MASK]]", "[ MASK ]",
    "The capital of France is [MASK].", "##ing", "un ##aff ##able", "#", "##", "[unused0]",
    "the fox thefox foxes fox  the   the", "GPU gpu Gpu gpus", "  [MASK]  [MASK] x[MASK]y\u3000",
    "Fox-the_fox.the", "fox\u0301 the\u0301", "\tfox \n the\r", "[UNK][PAD][SEP]", "[MASK]\u0301", "\u4e2d[MASK]\u6587", "[MASK]\u3000[SEP]",
    "😀", "😀😃😄", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "1️⃣2️⃣", "❤️", "☺", "I ❤️ 🍕!", "text😀text",
    "e\u0301", "e\u0301\u0323", "e\u0323\u0301", "a\u0300\u0301\u0302\u0303\u0304\u0305",
    "\u0301", "\u0301a", "q\u0307\u0323", "\u1e9b\u0323", "Å Å Å", "ﬁ ﬂ ﬀ ﬃ", "ℌ ℝ ℕ", "½ ¼ ²³",
    "가각힣", "한국어 텍스트", "\u1112\u1161\u11ab", "ㄱㄴㄷ", "日本語", "東京タワー", "ひらがな カタカナ",
    "がぎぐ ガギグ", "か\u3099", "ｶﾞｷﾞ", "Ｆｕｌｌｗｉｄｔｈ　ｔｅｘｔ！", "漢字かな交じり文。", "你好，世界！", "中文English混合123",
    "𠀀𠀁𪛖", "\U0002b820\U0002ceaf", "豈更車", "\u3400\u4dbf\u4e00\u9fff", "〇々〆", "「引用」『』",
    "مرحبا بالعالم", "اَلْعَرَبِيَّةُ", "لا", "١٢٣", "שלום עולם", "שָׁלוֹם", "نستعلیق", "پارسی",
    "नमस्ते दुनिया", "क्षत्रिय", "हिन्दी", "বাংলা", "தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "ગુજરાતી",
    "สวัสดีชาวโลก", "ภาษาไทย น้ำ", "ພາສາລາວ", "မြန်မာ", "ខ្មែរ", "བོད་སྐད", "አማርኛ", "ქართული", "Հայերեն",
    "Привет, мир", "Ёлка йод Й", "Ελληνικά", "ΟΔΥΣΣΕΥΣ", "Σίσυφος ΣΑΣ σας", "ΆΈΉΊΌΎΏ", "ἄνθρωπος ᾳ ᾼ",
    "STRASSE Straße ẞ", "Äpfel Öl Übermut ÄÖÜ", "İstanbul Iğdır ISPARTA ılık", "I\u0307 i\u0307 İ ı",
    "ǅ ǆ Ǆ ǈ", "Đồng Việt Nam", "ĐẠI HỌC", "Łódź ŁÓDŹ", "Ångström", "ŉ ĸ ſ", "Ⅷ ⅷ Ⓐ ⓐ", "𝐀𝐁𝐂 𝒜",
    "𐐀𐐁 𐐨", "ᏣᎳᎩ ꮳꮃꭹ", "ᲐᲑ", "Ꞑ Ꟶ", "\u2c2f\u2c5f", "ß ŭ ũ", "Ω K Å",
    "\u0001\u0002\u0003", "a\u0007b", "a\u000bb", "a\u000cb", "a\u001cb\u001db\u001eb\u001fb",
    "a\u007fb", "a\u0080b\u0085c\u009fd", "a\u00adb", "a\u200bb\u200cc\u200dd", "a\u2028b\u2029c",
    "a\u2060b\ufeffc", "a\u061cb\u200eb\u200fb", "\u202aabc\u202c", "\u2066abc\u2069",
    "a\u1680b\u2000c\u2003d\u2009e\u200af", "a\u202fb\u205fc\u3000d", "a\u180eb", "\u3164", "\u2800",
    "\ue000\uf8ff", "a\ue123b", "\U000f0000\U0010fffd", "\U0010ffff", "\ufdd0\ufdef", "\uffff",
    "a\u0378b", "\u05ff", "\U000e0001\U000e0041", "x\ufe0fy\ufe0e", "\ufff9a\ufffab\ufffb",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "¡¿§¶•…–—‘’“”„‚‹›«»", "、。〃〈〉《》【】", "‽⁂※", "⸘⸮⹀⹁", "·・･",
    "؟،؛", "।॥", "־׀׃", "๏๚๛", "။၊", "+<=>|~^`$", "€£¥₹₿¢", "©®™", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋", "←↑→↓", "░▒▓█",
    "a-b_c.d,e;f:g", "don't can't won't I'm you're", "rock'n'roll O'Neill", "U.S.A. e.g. i.e.",
    "https://example.com/path?q=1&r=two#frag", "http://[::1]:8080/", "user.name+tag@mail.example.org",
    "C:\\Windows\\System32", "/usr/local/bin", "10.0.0.1/8", "fe80::1%eth0", "+49 (0)30 1234-5678",
    "1234567890", "3.14159", "-273.15", "1e-9", "0x7fff", "1,234,567.89", "50%", "1/2", "١٢٣٤", "१२३", "三百",
    "int main(void) { return 0; }", "for (i = 0; i < n; i++) a[i] += b[i];", "x=lambda y:y**2",
    "SELECT * FROM t WHERE a='b';", "<div class=\"x\">&amp;</div>", "{\"a\": [1, 2.5e3, null]}",
    "def f(self): return self.__x__", "#include <stdio.h>", "git rebase -i HEAD~3", "a\\nb\\tc",
    "aaaa" * 25, "a" * 99, "a" * 100, "a" * 101, "a" * 1000, "é" * 100, "é" * 101, "中" * 101,
    "e\u0301" * 100, "e\u0301" * 101, "x" * 99 + " " + "y" * 101, "ß" * 100, "İ" * 50, "İ" * 51,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch", "-" * 300, "." * 600, "no " * 300,
    "中" * 300, "中文 " * 200, "😀" * 300, "a b " * 150, "ok. " * 128, "[MASK] " * 300, "hello " * 254,
    "hello " * 255, "hello " * 253, "hello " * 510, "hello " * 511, "unaffable " * 130,
    "\u0301" * 40, "a" + "\u0323\u0301" * 40, "\u0345\u0334" * 20 + "z", "가" * 110,
]

SCRIPTS = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
           (0x530, 0x58F), (0x590, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x139F),
           (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x2E00, 0x2FFF), (0x3000, 0x33FF), (0x4E00, 0x9FFF),
           (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xF900, 0xFFEF), (0x10000, 0x11FFF), (0x16A00, 0x16FFF),
           (0x1D100, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x2FA1F)]

MARKS = [""] * 12 + ["\u0301", "\u0323", "\u0308\u0301", "\u0327", "\u3099", "\u05b4", "\u0e48"]


def sentence(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def mixed(rng, length):
    """Runs of characters from one script each, with spaces and marks between."""
    text = ""
    while len(text) < length:
        low, high = rng.choice(SCRIPTS)
        text += "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))
        text += rng.choice(["", "", " ", "\u0301", ".", "-", "\u00a0", "[MASK]", "\u200d"])
    return text


def anything(rng, length):
    codes = (rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF), rng.randint(0, 0x3FF)])
             for _ in range(length))
    return "".join(map(chr, codes))


def main():
    rng = random.Random(20240229)
    texts = list(EXACT)
    for words in (5, 12, 30, 60, 100, 128, 180, 240, 256, 300, 400, 511, 512, 700):
        texts.append(sentence(rng, words))
    while len(texts) < COUNT:
        kind = len(texts) % 4
        if kind == 0:
            texts.append(sentence(rng, rng.randint(1, 40)))
        elif kind == 1:
            texts.append(mixed(rng, rng.randint(1, 120)))
        elif kind == 2:
            texts.append(anything(rng, rng.randint(1, 60)))
        else:
            text = sentence(rng, rng.randint(1, 10)) + " " + mixed(rng, rng.randint(1, 30))
            texts.append("".join(c + rng.choice(MARKS) for c in text))
    assert len(texts) == COUNT
    json.dump(texts, sys.stdout, ensure_ascii=True, indent=0)
    print()


if __name__ == "__main__":
    main()
