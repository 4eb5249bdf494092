#!/usr/bin/env python3
"""make_models.py - random-weight BERT checkpoints of any size, for tests,
benchmarks and machines without a network.

A checkpoint is complete: config.json, the weights as safetensors, a trained
WordPiece tokenizer (tokenizer.json, vocab.txt and the two small files beside
it) and, with --sentence-transformers, the pipeline of modules. transformers,
sentence-transformers and Vacate all load it.

The same arguments give the same bytes, on every machine and with every
version of numpy: weights are made of raw PCG64 words with integer and exact
floating-point steps only, and the tokenizer is trained here (a byte-for-byte
repeatable WordPiece; the order of ties in the tokenizers library is not).

    make_models.py DIR --preset minilm-l6
    make_models.py DIR --preset tiny --sentence-transformers --pooling cls --dtype BF16
    make_models.py DIR --preset tiny --copies 8       # DIR-1 ... DIR-8, seeds counted up

Needs Python 3.9 and numpy.
"""
import argparse
import collections
import dataclasses
import heapq
import json
import os
import shutil
import struct
import sys
import unicodedata

import numpy as np

PRESETS = {
    #             hidden layers heads inner vocab  positions
    "tiny":       (32,   2,     4,    64,   1000,  128),
    "minilm-l6":  (384,  6,     12,   1536, 30522, 512),
    "bert-base":  (768,  12,    12,   3072, 30522, 512),
    "bert-large": (1024, 24,    16,   4096, 30522, 512),
}
POOLINGS = ("cls", "mean", "max", "mean_sqrt_len")
DTYPES = {"F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)}
ACTIVATIONS = {
    "identity": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Learned pieces at most; the rest of a larger vocabulary is [unusedN], as in
# the published BERT vocabularies.
MAX_TRAINED = 6000


@dataclasses.dataclass
class Spec:
    """All that decides the bytes of a checkpoint."""
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    intermediate: int = 64
    vocab: int = 1000
    positions: int = 128
    type_vocab: int = 2
    seed: int = 0
    std: float = 0.0            # 0: 1/sqrt(hidden), which keeps signals alive through the layers
    dtype: str = "F32"
    shards: int = 1
    prefix: str = ""            # "bert.": as the checkpoints of BertFor... classes name tensors
    lower_case: bool = True
    sentence_transformers: bool = False
    pooling: str = "mean"
    dense: int = 0              # width of a Dense module; 0: none
    dense_activation: str = "tanh"
    normalize: bool = False
    max_seq_length: int = 0     # 0: as many as there are positions

    def check(self):
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        if self.vocab < 200:
            raise ValueError(f"vocab {self.vocab} is too small: at least 200 for the alphabet")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype} is not one of {', '.join(DTYPES)}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling} is not one of {', '.join(POOLINGS)}")
        if self.dense_activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.dense_activation} is not known")
        if self.shards < 1:
            raise ValueError("shards must be at least 1")
        if self.max_seq_length > self.positions:
            raise ValueError(f"max-seq-length {self.max_seq_length} is more than the "
                             f"{self.positions} positions")


def preset(name, **changes):
    """A Spec from a preset's name, with changes."""
    hidden, layers, heads, inner, vocab, positions = PRESETS[name]
    spec = Spec(hidden=hidden, layers=layers, heads=heads, intermediate=inner, vocab=vocab,
                positions=positions)
    return dataclasses.replace(spec, **changes)


# ---- the corpus -------------------------------------------------------------

WORDS = """
the of and to in is it that was for on are as with they be at one have this from by hot but some
what there we can out other were all your when up use word how said an each she which do their
time if will way about many then them would write like so these her long make thing see him two
has look more day could go come did my sound no most number who over know water than call first
people may down side been now find any new work part take get place made live where after back
little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does
tell sentence set three want air well also play small end put home read hand port large spell add
even land here must big high such follow act why ask men change went light kind off need house
picture try us again animal point mother world near build self earth father head stand own page
should country found answer school grow study still learn plant cover food sun four thought let
keep eye never last door between city tree cross since hard start might story saw far sea draw
left late run while press close night real life few stop open seem together next white children
begin got walk example ease paper often always music those both mark book letter until mile river
car feet care second group carry took rain eat room friend began idea fish mountain north once
base hear horse cut sure watch color face wood main enough plain girl usual young ready above ever
red list though feel talk bird soon body dog family direct pose leave song measure state product
black short numeral class wind question happen complete ship area half rock order fire south
problem piece told knew pass farm top whole king size heard best hour better true during hundred
remember step early hold west ground interest reach fast five sing listen six table travel less
morning ten simple several vowel toward war lay against pattern slow center love person money
serve appear road map science rule govern pull cold notice voice fall power town fine certain fly
unit lead cry dark machine note wait plan figure star box noun field rest correct able pound done
beauty drive stood contain front teach week final gave green quick develop sleep warm free minute
strong special mind behind clear tail produce fact street inch lot nothing course stay wheel full
force blue object decide surface deep moon island foot yet busy test record boat common gold
possible plane age dry wonder laugh thousand ago ran check game shape yes miss brought heat snow
bed bring sit perhaps fill east weight language among model memory server worker vector token
region ledger receipt kernel process thread batch tensor layer matrix cache page byte address
load unload answer request reply socket frame header network device driver budget queue stream
quiet harbour lighthouse garden winter summer train station market library teacher doctor coffee
bread cheese apple orange bicycle engine bridge castle forest desert ocean planet galaxy comet
""".split()

# Every letter that should not be [UNK]: a taste of other scripts and signs.
FOREIGN = [
    "Der Zug fährt über die Brücke, während es draußen regnet; größer, schöner, weiß.",
    "Où est la gare ? Le garçon a mangé une crêpe à l'hôtel, déjà connu, naïve, cœur.",
    "El niño está en la montaña; ¿dónde está el corazón? ¡Mañana será otro día!",
    "Москва и Петербург: большие города, в которых живут люди и работают машины.",
    "Η θάλασσα είναι ήσυχη και ο ουρανός είναι γαλάζιος σήμερα.",
    "今天 天 气 很 好 我 们 去 公 园 散 步 中 国 人 大 学 生 日 本 語 東 京 都",
    "こんにちは せかい カタカナ と ひらがな を よむ ことが できます",
    "السلام عليكم كيف حالك اليوم في المدينة الكبيرة",
    "안녕하세요 세계 한국어 문장 입니다",
    "שלום עולם זה משפט קצר", "नमस्ते दुनिया यह एक वाक्य है", "สวัสดี ชาว โลก",
    "0 1 2 3 4 5 6 7 8 9 10 42 100 1000 2024 3.14 1,000,000 -7 50% $20 €30 £5 #1 @home",
    "! \" ' ( ) * + , - . / : ; < = > ? [ \\ ] ^ _ ` { | } ~ & … – — « » “ ” ‘ ’ ° ©",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
]
SUFFIXES = ["s", "ed", "ing", "er", "ers", "ly", "ness", "ful", "less", "able", "ment", "est"]
PREFIXES = ["un", "re", "over", "pre", "mis", "out"]


class Words:
    """A small repeatable generator (SplitMix64); for the corpus only."""

    def __init__(self, seed):
        self.state = seed & 0xffffffffffffffff

    def below(self, n):
        self.state = (self.state + 0x9e3779b97f4a7c15) & 0xffffffffffffffff
        z = self.state
        z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & 0xffffffffffffffff
        z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & 0xffffffffffffffff
        return (z ^ (z >> 31)) % n


def corpus():
    """Lines of text; common words are common in them, and some words are
    seen only with an ending, so that pieces are worth learning."""
    draw = Words(20240229)
    lines = list(FOREIGN) * 3
    for _ in range(6000):
        words = []
        for _ in range(4 + draw.below(12)):
            # The smaller of two draws: the front of the list is frequent.
            word = WORDS[min(draw.below(len(WORDS)), draw.below(len(WORDS)))]
            form = draw.below(10)
            if form == 0:
                word += SUFFIXES[draw.below(len(SUFFIXES))]
            elif form == 1:
                word = PREFIXES[draw.below(len(PREFIXES))] + word
            words.append(word)
        text = " ".join(words)
        lines.append(text[0].upper() + text[1:] + ".")
    return lines


# ---- WordPiece training -----------------------------------------------------

def is_punctuation(char):
    """BERT's: ASCII signs and Unicode's P categories."""
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


def count_words(lines, lower_case):
    """Words as BERT's pre-tokenizer cuts them. Only for training: what it
    cuts differently from the tokenizer is a piece less learned, no more."""
    counts = collections.Counter()
    for line in lines:
        if lower_case:
            line = unicodedata.normalize("NFD", line.lower())
            line = "".join(c for c in line if unicodedata.category(c) != "Mn")
        word = ""
        for char in line + " ":
            if char.isspace() or is_punctuation(char) or 0x4e00 <= ord(char) <= 0x9fff:
                if word:
                    counts[word] += 1
                if not char.isspace():
                    counts[char] += 1
                word = ""
            else:
                word += char
    return counts


def train(size, lower_case):
    """Learns at most size pieces by merging the most frequent neighbours;
    ties go to the pair that sorts first. Returns them in order of learning."""
    counts = count_words(corpus(), lower_case)
    words, weights = [], []
    for word in sorted(counts):
        words.append([word[0]] + ["##" + c for c in word[1:]])
        weights.append(counts[word])
    pieces = sorted({p for word in words for p in word})
    known = set(pieces)
    pair_count = collections.Counter()
    pair_words = collections.defaultdict(set)
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_count[pair] += weights[index]
            pair_words[pair].add(index)
    heap = [(-count, pair) for pair, count in pair_count.items()]
    heapq.heapify(heap)
    while heap and len(pieces) < size:
        count, pair = heapq.heappop(heap)
        if pair_count[pair] != -count or count == 0:
            continue    # an older count of this pair
        merged = pair[0] + pair[1][2:]
        if merged not in known:
            known.add(merged)
            pieces.append(merged)
        changed = set()
        for index in sorted(pair_words.pop(pair)):
            word, weight, out, at = words[index], weights[index], [], 0
            for old in zip(word, word[1:]):
                pair_count[old] -= weight
                changed.add(old)
            while at < len(word):
                if tuple(word[at:at + 2]) == pair:
                    out.append(merged)
                    at += 2
                else:
                    out.append(word[at])
                    at += 1
            words[index] = out
            for new in zip(out, out[1:]):
                pair_count[new] += weight
                pair_words[new].add(index)
                changed.add(new)
        for item in changed:
            if pair_count[item] > 0:
                heapq.heappush(heap, (-pair_count[item], item))
    return pieces[:size]


_trained = {}


def vocabulary(size, lower_case):
    """Tokens by id: [PAD], the other specials, pieces, [unusedN]."""
    want = min(size - len(SPECIAL), MAX_TRAINED)
    if (want, lower_case) not in _trained:
        _trained[want, lower_case] = train(want, lower_case)
    tokens = SPECIAL + _trained[want, lower_case]
    return tokens + [f"[unused{n}]" for n in range(size - len(tokens))]


# ---- files ------------------------------------------------------------------

def write_json(path, value):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def write_tokenizer(where, spec):
    tokens = vocabulary(spec.vocab, spec.lower_case)
    limit = spec.max_seq_length or spec.positions

    def special(name):
        return {"id": name, "ids": [SPECIAL.index(name)], "tokens": [name]}

    def template(*parts):
        return [{("SpecialToken" if p[0] in SPECIAL else "Sequence"):
                 {"id": p[0], "type_id": p[1]}} for p in parts]

    write_json(os.path.join(where, "tokenizer.json"), {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{
            "id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True} for i, s in enumerate(SPECIAL)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True,
                       "handle_chinese_chars": True, "strip_accents": None,
                       "lowercase": spec.lower_case},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template(("[CLS]", 0), ("A", 0), ("[SEP]", 0)),
            "pair": template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)),
            "special_tokens": {"[CLS]": special("[CLS]"), "[SEP]": special("[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {token: i for i, token in enumerate(tokens)}},
    })
    names = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]",
             "cls_token": "[CLS]", "mask_token": "[MASK]"}
    write_json(os.path.join(where, "special_tokens_map.json"), names)
    write_json(os.path.join(where, "tokenizer_config.json"), {
        "do_lower_case": spec.lower_case, **names, "tokenize_chinese_chars": True,
        "strip_accents": None, "model_max_length": limit, "tokenizer_class": "BertTokenizer"})
    with open(os.path.join(where, "vocab.txt"), "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(tokens) + "\n")


def tensors(spec):
    """(name, shape, kind) of every parameter, in the order of the file."""
    h, inner = spec.hidden, spec.intermediate
    out = []

    def linear(name, rows, columns):
        out.append((name + ".weight", (rows, columns), "weight"))
        out.append((name + ".bias", (rows,), "bias"))

    def norm(name):
        out.append((name + ".weight", (h,), "scale"))
        out.append((name + ".bias", (h,), "bias"))

    for name, rows in (("word", spec.vocab), ("position", spec.positions),
                       ("token_type", spec.type_vocab)):
        out.append((f"embeddings.{name}_embeddings.weight", (rows, h), "weight"))
    norm("embeddings.LayerNorm")
    for i in range(spec.layers):
        at = f"encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(at + "attention.self." + name, h, h)
        linear(at + "attention.output.dense", h, h)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", inner, h)
        linear(at + "output.dense", h, inner)
        norm(at + "output.LayerNorm")
    linear("pooler.dense", h, h)
    return [(spec.prefix + name, shape, kind) for name, shape, kind in out]


class Weights:
    """Values near a normal distribution: four 16-bit uniforms of one raw
    PCG64 word, added as integers. No step can round differently elsewhere
    but the last one, a multiplication of float32 by float32, which IEEE fixes."""

    CHUNK = 1 << 20

    def __init__(self, seed, std, dtype):
        self.raw = np.random.PCG64(seed)
        self.std = std
        self.dtype = dtype

    def values(self, count, kind):
        std = self.std if kind == "weight" else 0.02
        # Standard deviation of the sum of four uniforms on 0..65535: 65536/sqrt(3).
        scale = np.float32(std * 1.7320508075688772 / 65536.0)
        while count > 0:
            n = min(count, self.CHUNK)
            words = self.raw.random_raw(n).astype("<u8").view("<u2").reshape(n, 4)
            total = words.sum(axis=1, dtype=np.int32) - np.int32(2 * 65535)
            value = total.astype(np.float32) * scale
            if kind == "scale":
                value += np.float32(1)
            yield self.encode(value)
            count -= n

    def encode(self, value):
        if self.dtype == "F16":
            return value.astype("<f2").tobytes()
        if self.dtype == "BF16":    # round to nearest, ties to even
            bits = value.view(np.uint32)
            bits = bits + np.uint32(0x7fff) + ((bits >> np.uint32(16)) & np.uint32(1))
            return (bits >> np.uint32(16)).astype("<u2").tobytes()
        return value.astype("<f4").tobytes()


def write_safetensors(path, items, weights, dtype):
    """Writes the tensors one after the other; never holds more than a chunk."""
    size = DTYPES[dtype][1]
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in items:
        end = at + size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, kind in items:
            for chunk in weights.values(int(np.prod(shape)), kind):
                file.write(chunk)
    return at


def write_weights(where, spec):
    items = tensors(spec)
    weights = Weights(spec.seed, spec.std or spec.hidden ** -0.5, spec.dtype)
    if spec.shards == 1:
        write_safetensors(os.path.join(where, "model.safetensors"), items, weights, spec.dtype)
        return
    size = DTYPES[spec.dtype][1]
    total = sum(size * int(np.prod(shape)) for _, shape, _ in items)
    shards, done = [[] for _ in range(min(spec.shards, len(items)))], 0
    for index, item in enumerate(items):    # cut by bytes, and leave no shard empty
        shard = min(len(shards) * done // total, index, len(shards) - 1)
        shard = max(shard, len(shards) - (len(items) - index))
        shards[shard].append(item)
        done += size * int(np.prod(item[1]))
    if not all(shards):
        raise ValueError(f"{spec.shards} shards: too many for these tensors")
    files = {}
    for number, part in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(os.path.join(where, name), part, weights, spec.dtype)
        files.update({item[0]: name for item in part})
    write_json(os.path.join(where, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": files})


def write_modules(where, spec):
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    os.mkdir(os.path.join(where, "1_Pooling"))
    write_json(os.path.join(where, "1_Pooling", "config.json"), {
        "word_embedding_dimension": spec.hidden,
        "pooling_mode_cls_token": spec.pooling == "cls",
        "pooling_mode_mean_tokens": spec.pooling == "mean",
        "pooling_mode_max_tokens": spec.pooling == "max",
        "pooling_mode_mean_sqrt_len_tokens": spec.pooling == "mean_sqrt_len"})
    if spec.dense:
        name = f"{len(modules)}_Dense"
        modules.append((name, "Dense"))
        folder = os.path.join(where, name)
        os.mkdir(folder)
        write_json(os.path.join(folder, "config.json"), {
            "in_features": spec.hidden, "out_features": spec.dense, "bias": True,
            "activation_function": ACTIVATIONS[spec.dense_activation]})
        write_safetensors(os.path.join(folder, "model.safetensors"),
                          [("linear.weight", (spec.dense, spec.hidden), "weight"),
                           ("linear.bias", (spec.dense,), "bias")],
                          Weights(spec.seed + 0x5eed, spec.hidden ** -0.5, "F32"), "F32")
    if spec.normalize:
        name = f"{len(modules)}_Normalize"
        modules.append((name, "Normalize"))
        os.mkdir(os.path.join(where, name))
    write_json(os.path.join(where, "modules.json"), [
        {"idx": i, "name": str(i), "path": path,
         "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate(modules)])
    write_json(os.path.join(where, "sentence_bert_config.json"), {
        "max_seq_length": spec.max_seq_length or spec.positions, "do_lower_case": False})


def make(where, spec):
    """Writes one checkpoint to the directory where, which must not exist, and
    comes into being whole or not at all."""
    spec.check()
    where = os.path.abspath(where)
    if os.path.lexists(where):
        raise FileExistsError(f"{where}: is there already; remove it or name another place")
    partial = f"{where}.partial-{os.getpid()}"
    os.makedirs(partial)
    try:
        write_json(os.path.join(partial, "config.json"), {
            "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": spec.hidden,
            "initializer_range": 0.02, "intermediate_size": spec.intermediate,
            "layer_norm_eps": 1e-12, "max_position_embeddings": spec.positions,
            "model_type": "bert", "num_attention_heads": spec.heads,
            "num_hidden_layers": spec.layers, "pad_token_id": 0,
            "position_embedding_type": "absolute", "torch_dtype": DTYPES[spec.dtype][0],
            "type_vocab_size": spec.type_vocab, "vocab_size": spec.vocab})
        write_tokenizer(partial, spec)
        write_weights(partial, spec)
        if spec.sentence_transformers:
            write_modules(partial, spec)
        os.rename(partial, where)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return where


def main():
    parser = argparse.ArgumentParser(
        description="Write random-weight BERT checkpoints, the same bytes for the same arguments.")
    parser.add_argument("dir", help="directory to make (with --copies N: DIR-1 ... DIR-N)")
    parser.add_argument("--preset", choices=PRESETS, default="tiny",
                        help="sizes to start from (default tiny); the options below change them")
    for name, what in (("hidden", "width"), ("layers", "layers"), ("heads", "attention heads"),
                       ("intermediate", "width inside the feed-forward part"),
                       ("vocab", "tokens in the vocabulary"),
                       ("positions", "longest sequence that the checkpoint has positions for")):
        parser.add_argument("--" + name, type=int, help=what)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--std", type=float, default=0.0,
                        help="standard deviation of the weights (default 1/sqrt(hidden))")
    parser.add_argument("--dtype", choices=DTYPES, default="F32")
    parser.add_argument("--shards", type=int, default=1, help="files to spread the weights over")
    parser.add_argument("--prefix", default="", help='before tensor names, for example "bert."')
    parser.add_argument("--cased", action="store_true", help="tokenizer keeps case and accents")
    parser.add_argument("--sentence-transformers", action="store_true",
                        help="write modules.json and what it names")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean")
    parser.add_argument("--dense", type=int, default=0, metavar="OUT",
                        help="add a Dense module of this width")
    parser.add_argument("--dense-activation", choices=ACTIVATIONS, default="tanh")
    parser.add_argument("--normalize", action="store_true", help="add a Normalize module")
    parser.add_argument("--max-seq-length", type=int, default=0)
    parser.add_argument("--copies", type=int, default=1,
                        help="make this many, with seeds counted up from --seed")
    args = parser.parse_args()
    fields = {f.name for f in dataclasses.fields(Spec)} - {"lower_case", "type_vocab"}
    changes = {k: v for k, v in vars(args).items() if k in fields and v is not None}
    spec = preset(args.preset, lower_case=not args.cased, **changes)
    try:
        for copy in range(args.copies):
            name = args.dir if args.copies == 1 else f"{args.dir}-{copy + 1}"
            print(make(name, dataclasses.replace(spec, seed=args.seed + copy)))
    except (ValueError, OSError) as error:
        sys.exit(f"make_models.py: {error}")


if __name__ == "__main__":
    main()
