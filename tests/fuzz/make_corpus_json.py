#!/usr/bin/env python3
"""Writes corpus/json/: documents that are right and documents that are wrong."""
import os

DOCUMENTS = {
    "empty": b"", "null": b" null ", "number": b"-12.5e+3", "integers": b"[0,-0,9223372036854775807,-9223372036854775808,1e308]",
    "string": b'"plain \\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00e9\\ud83d\\ude00 \xc3\xa9\xf0\x9f\x98\x80"',
    "object": b'{"a":{"b":[1,2,{"c":null}]},"d":true,"e":false,"":""}',
    "deep": b"[" * 64 + b"]" * 64, "too_deep": b"[" * 65, "spaces": b" \t\r\n[ 1 , 2 ]\n",
    "trailing_comma": b"[1,]", "two_values": b"1 2", "lone_surrogate": b'"\\ud800"', "bad_utf8": b'"\xc0\x80"',
    "control": b'"a\nb"', "cut": b'{"a":[1,"x', "leading_zero": b"[01]", "comment": b"[1/*x*/]", "nan": b"[NaN]",
    "header": b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}',
}

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "json")
os.makedirs(here, exist_ok=True)
for name, document in DOCUMENTS.items():
    with open(os.path.join(here, name), "wb") as file:
        file.write(document)
