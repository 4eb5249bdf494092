#!/usr/bin/env python3
"""Writes corpus/tokenizer/: small tokenizers, a byte 0xFF, and a text each."""
import json
import os

TEXT = ("[MASK] Caf\u00e9 the fox  foxes e\u0323\u0301 \u4e2d\u6587 un-able \u0130 \ud55c\uad6d "
        "\u3000x\u0000y \U0001f600 [CLS]").encode()
VOCAB = {t: i for i, t in enumerate("[UNK] [CLS] [SEP] [MASK] a b c e f o x the fox ##x ##es ##e cafe "
                                    "\u4e2d un able - i ##\u0301".split())}


def tokenizer(**changes):
    document = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [dict(id=i, content=c, single_word=False, lstrip=False, rstrip=False,
                              normalized=False, special=True)
                         for i, c in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]"])],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 10, "vocab": VOCAB}}
    document.update(changes)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def added(content, **on):
    token = dict(id=len(VOCAB) if content not in VOCAB else VOCAB[content], content=content,
                 single_word=False, lstrip=False, rstrip=False, normalized=True, special=False)
    token.update(on)
    return token


TEMPLATE = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "s", "type_id": 1}}, {"Sequence": {"id": "A", "type_id": 2}}],
            "pair": [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"s": {"id": "s", "ids": [1, 3], "tokens": ["[CLS]", "[MASK]"]}}}
SEQUENCE = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}
SPLITS = {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Punctuation", "behavior": "Isolated"}]}
CASES = {
    "bert": tokenizer(), "template": tokenizer(post_processor=TEMPLATE),
    "sequence": tokenizer(normalizer=SEQUENCE, pre_tokenizer=SPLITS), "bare": tokenizer(
        normalizer=None, pre_tokenizer=None, post_processor=None, added_tokens=[]),
    "added": tokenizer(added_tokens=[added("fox", rstrip=True, lstrip=True, normalized=False),
                                     added("the", single_word=True), added("Caf\u00e9", lstrip=True)]),
    "unknown": tokenizer(normalizer={"type": "NFKC"}), "cut": tokenizer()[:400],
}

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "tokenizer")
os.makedirs(here, exist_ok=True)
for name, document in CASES.items():
    with open(os.path.join(here, name), "wb") as file:
        file.write(document + b"\xff" + TEXT)
