#!/usr/bin/env python3
"""Writes tokens/: small tokenizers that differ in one option each, and the ids
that the tokenizers library (0.22.1) gives for texts.json.

    python3 make_tokens.py [DIRECTORY_OF_THE_SAMPLE_MODEL]

tokens/NAME.json is a tokenizer; tokens/NAME.MAX.SIDE.MODE.txt holds, after a
first line "MAX SIDE MODE" (0: no truncation; left or right; special or plain),
one line for each text: its ids with spaces between, ID:TYPE where a type is not
0. With the directory of the sample model its ids are written too, under the
name "sample".
"""
import copy
import json
import os
import sys

import tokenizers
from tokenizers import Tokenizer

VERSION = "0.22.1"
HERE = os.path.dirname(os.path.abspath(__file__))


def vocabulary(prefix="##"):
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += list(letters + letters.upper() + "0123456789!\"#$%&'()*+,-./:;<=>?@[]^_{|}~")
    tokens += list("éàüößçñøåæıłđσςΣωάαпривётйЙ中文世界日本語かがカ가힣مرحबनम\u0301\u0308\u05b4")
    tokens += [prefix + c for c in letters + "ABCXYZ0123456789éüßσςαт中文語か\u0301\u0323\u0e48'.-_"]
    tokens += ["the", "quick", "fox", "jump", "over", "dog", "hello", "Hello", "gpu", "GPU",
               "model", "token", "world", "##", "cafe", "café", "straße", "un", "int", "don"]
    tokens += [prefix + s for s in ["ing", "s", "ly", "ization", "able", "aff", "er", "ed", "ES", "ation"]]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def added(token_id, content, special=False, **on):
    token = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False,
                 normalized=not special, special=special)
    token.update(on)
    return token


def bert(**on):
    options = dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True,
                   strip_accents=None, lowercase=True)
    options.update(on)
    return options


def base(vocab=None, prefix="##"):
    vocab = vocab or vocabulary(prefix)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    piece = lambda kind, name, type_id: {kind: {"id": name, "type_id": type_id}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(vocab[t], t, special=True) for t in special],
        "normalizer": bert(), "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0),
                       piece("SpecialToken", "[SEP]", 0)],
            "pair": [piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0),
                     piece("SpecialToken", "[SEP]", 0), piece("Sequence", "B", 1),
                     piece("SpecialToken", "[SEP]", 1)],
            "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]}
                               for t in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
                  "max_input_chars_per_word": 100, "vocab": vocab}}


def variants():
    """Name, tokenizer and (max_tokens, side, mode) of each golden file."""
    right, left, plain = (40, "right", "special"), (40, "left", "special"), (40, "right", "plain")

    def make(name, *runs, **members):
        tokenizer = base()
        tokenizer.update(copy.deepcopy(members))
        return name, tokenizer, runs or (right,)

    yield make("uncased", right, left, plain, (2, "right", "special"), (1, "left", "plain"))
    yield make("cased", normalizer=bert(lowercase=False))
    yield make("lower_keep_accents", normalizer=bert(strip_accents=False))
    yield make("cased_strip_accents", normalizer=bert(lowercase=False, strip_accents=True))
    yield make("no_chinese", normalizer=bert(handle_chinese_chars=False))
    yield make("no_clean", normalizer=bert(clean_text=False))
    yield make("no_normalizer", normalizer=None)
    yield make("no_normalizer_no_split", normalizer=None, pre_tokenizer=None)
    yield make("sequence_nfd_strip_lower", pre_tokenizer={"type": "WhitespaceSplit"}, normalizer={
        "type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"},
                                            {"type": "Lowercase"}]})
    yield make("lower_then_nfd", pre_tokenizer={"type": "Whitespace"}, normalizer={
        "type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFD"}]})
    yield make("split_space_punctuation", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}]})
    yield make("split_word_punctuation", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Whitespace"}, {"type": "Punctuation", "behavior": "Isolated"}]})
    yield make("bert_processing", right, plain, post_processor={
        "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})
    yield make("roberta_processing", post_processor={
        "type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2],
        "trim_offsets": True, "add_prefix_space": False})
    yield make("no_processor", right, left, post_processor=None)
    for name, prefix in (("prefix_at", "@@"), ("prefix_none", ""), ("prefix_letter", "é")):
        tokenizer = base(prefix=prefix)
        tokenizer["model"]["max_input_chars_per_word"] = 12
        yield name, tokenizer, (right,)

    tokenizer = base()
    size = len(tokenizer["model"]["vocab"])
    mask = tokenizer["added_tokens"].pop()
    mask.update(lstrip=True, rstrip=True)
    vocab = tokenizer["model"]["vocab"]
    tokenizer["added_tokens"].append(mask)
    for content, options in (
            ("the", dict(single_word=True)), ("GPU", {}), ("fox jumps", dict(lstrip=True)),
            ("fox", dict(rstrip=True, normalized=False)), ("fox jumps over", dict(special=True)),
            ("Café", dict(single_word=True, lstrip=True)), ("中", dict(normalized=False)),
            (" a ", dict(rstrip=True)), ("über", dict(special=True, normalized=True)), ("Über", {}),
            ("\u0301", dict(normalized=False, lstrip=True)),
            ("-", dict(single_word=True, normalized=False)),
            ("\n", dict(normalized=False, lstrip=True, rstrip=True))):
        if content not in vocab:
            size += 1
        tokenizer["added_tokens"].append(added(vocab.get(content, size - 1), content, **options))
    yield "added", tokenizer, (right, left)

    tokenizer = base()
    processor = tokenizer["post_processor"]
    processor["single"] = [
        {"SpecialToken": {"id": "lead", "type_id": 2}}, {"Sequence": {"id": "A", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 3}}]
    processor["special_tokens"]["lead"] = {"id": "lead", "ids": [2, 4, 0],
                                           "tokens": ["[CLS]", "[MASK]", "[PAD]"]}
    yield "template", tokenizer, (right, left, plain)


def write_ids(name, tokenizer, texts, run):
    limit, side, mode = run
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit:
        tokenizer.enable_truncation(limit, direction=side)
    with open(os.path.join(HERE, "tokens", f"{name}.{limit}.{side}.{mode}.txt"), "w") as out:
        print(limit, side, mode, file=out)
        for text in texts:
            encoding = tokenizer.encode(text, add_special_tokens=mode == "special")
            print(*(f"{i}:{t}" if t else str(i) for i, t in
                    zip(encoding.ids, encoding.type_ids)), file=out)


def main():
    if tokenizers.__version__ != VERSION:
        sys.exit(f"needs tokenizers {VERSION}, this is {tokenizers.__version__}")
    with open(os.path.join(HERE, "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    os.makedirs(os.path.join(HERE, "tokens"), exist_ok=True)
    for name, tokenizer, runs in variants():
        text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(HERE, "tokens", name + ".json"), "w", encoding="utf-8") as out:
            out.write(text + "\n")
        for run in runs:
            write_ids(name, Tokenizer.from_str(text), texts, run)
    if len(sys.argv) > 1:
        path = os.path.join(sys.argv[1], "tokenizer.json")
        for run in ((0, "right", "special"), (256, "right", "special"), (64, "left", "special")):
            write_ids("sample", Tokenizer.from_file(path), texts, run)


if __name__ == "__main__":
    main()
