#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/request: a route's number, then a body."""
import pathlib

OPENAI, TEI, OLLAMA, LEGACY, GENERATE, LOAD, UNLOAD, MODEL, PLAN, RECEIPTS, INFO, PUT, NOWHERE, ROOT, \
    INFER, BINARY, INDEX, KSERVE_LOAD, KSERVE_UNLOAD, KSERVE_MODEL, SWAP_UNLOAD = range(21)

TENSOR = b'{"inputs":[{"name":"text","shape":[2,1],"datatype":"BYTES",'
IDS = b'{"inputs":[{"name":"input_ids","shape":[2,2],"datatype":"INT64",'


def binary(head, tail):
    head = head.replace(b'SIZE', str(len(tail)).encode())
    return bytes([len(head)]) + head + tail


SEEDS = {
    "openai_text": (OPENAI, b'{"input":"hello","model":"org/m","encoding_format":"base64"}'),
    "openai_texts": (OPENAI, b'{"model":"m","input":["a","","\\u00e9\\ud83d\\ude00\\n"],"dimensions":3,"user":"u"}'),
    "openai_ids": (OPENAI, b'{"model":"m","input":[101,2054,102]}'),
    "openai_id_lists": (OPENAI, b'{"model":"m","input":[[1,2],[3],"x"],"truncate":true,"keep_alive":"5m"}'),
    "openai_too_many": (OPENAI, b'{"model":"m","input":[1.5,{"a":[]},[[]]],"x":{"y":[null]}}'),
    "openai_nine": (OPENAI, b'{"model":"m","input":["1","2","3","4","5","6","7","8",[9],{"10":[]},11]}'),
    "openai_twice": (OPENAI, b'{"input":"x","input":"y"}'),
    "openai_nulls": (OPENAI, b'{"input":"x","model":"m","dimensions":null,"encoding_format":null}'),
    "tei": (TEI, b'{"inputs":["a","b"],"normalize":false,"truncate":true,"truncation_direction":"Left","prompt_name":null}'),
    "tei_empty": (TEI, b'{"inputs":[]}'),
    "tei_prompt": (TEI, b'{"inputs":"a","prompt_name":"query"}'),
    "ollama": (OLLAMA, b'{"model":"m:latest","input":["a","b"],"keep_alive":-1,"truncate":false}'),
    "ollama_load": (OLLAMA, b'{"model":"m","input":[],"keep_alive":1.5e0}'),
    "ollama_legacy": (LEGACY, b'{"model":"m","prompt":"p"}'),
    "ollama_generate": (GENERATE, b'{"model":"m","prompt":"","keep_alive":0}'),
    "ollama_prompt": (GENERATE, b'{"model":"m","prompt":"hi"}'),
    "load": (LOAD, b'{"model":"m","keep_alive":"1h30m5.5s"}'),
    "unload": (UNLOAD, b'{"model":"m","drop_cache":true}'),
    "unload_all": (UNLOAD, b'{"all":true}'),
    "unload_both": (UNLOAD, b'{"all":true,"model":"m"}'),
    "model": (MODEL, b''),
    "plan": (PLAN, b'org/m'),
    "plan_control": (PLAN, b'a\x01b'),
    "receipts": (RECEIPTS, b'12'),
    "receipts_bad": (RECEIPTS, b'-1'),
    "info": (INFO, b'm'),
    "method": (PUT, b'{}'),
    "nowhere": (NOWHERE, b'{}'),
    "root": (ROOT, b''),
    "empty": (OPENAI, b''),
    "array": (OPENAI, b'[1]'),
    "utf8": (OPENAI, b'{"input":"\xff\xc3\xa9"}'),
    "surrogate": (OPENAI, b'{"input":"\\ud800"}'),
    "deep": (OPENAI, b'{"x":' + b'[' * 70),
    "cut": (TEI, b'{"inputs":["a'),
    "infer": (INFER, TENSOR + b'"data":["a","\\u00e9"]}],"id":"7","outputs":[{"name":"embedding"}]}'),
    "infer_nested": (INFER, b'{"inputs":[{"data":[["a"],["b"]],"shape":[2,1],"datatype":"BYTES","name":"text"}]}'),
    "infer_ids": (INFER, IDS + b'"data":[[1,2],[3,4]]}]}'),
    "infer_flat": (INFER, IDS.replace(b"64", b"32") + b'"data":[1,2,3,4]}]}'),
    "infer_short": (INFER, IDS + b'"data":[[1,2],[3]]}]}'),
    "infer_parameters": (INFER, b'{"parameters":{"keep_alive":"5m","normalize":false,"truncate":true,"dimensions":2,'
                         b'"timeout":1000,"binary_data_output":true,"x":1.5},' + TENSOR[1:] + b'"data":["a","b"]}]}'),
    "infer_output": (INFER, TENSOR + b'"data":["a","b"]}],"outputs":[{"name":"embedding","parameters":{"binary_data":true}}]}'),
    "infer_deep": (INFER, b'{"parameters":{"x":[{}]}}'),
    "infer_memory": (INFER, TENSOR + b'"parameters":{"shared_memory_region":"r"}}]}'),
    "binary_texts": (BINARY, binary(TENSOR + b'"parameters":{"binary_data_size":SIZE}}]}',
                                    b'\1\0\0\0a\2\0\0\0\xc3\xa9')),
    "binary_cut": (BINARY, binary(TENSOR + b'"parameters":{"binary_data_size":SIZE}}]}', b'\1\0\0\0a\2\0')),
    "binary_ids": (BINARY, binary(IDS + b'"parameters":{"binary_data_size":SIZE}}]}',
                                  b''.join(n.to_bytes(8, "little") for n in (1, 2, 3, 4)))),
    "binary_json": (BINARY, binary(TENSOR + b'"data":["a","b"]}]}', b'')),
    "index": (INDEX, b'{"ready":true}'),
    "index_empty": (INDEX, b''),
    "kserve_load": (KSERVE_LOAD, b'{"parameters":{"keep_alive":-1}}'),
    "kserve_config": (KSERVE_LOAD, b'{"parameters":{"config":"{}"}}'),
    "kserve_unload": (KSERVE_UNLOAD, b'{"parameters":{"unload_dependents":false,"drop_cache":true}}'),
    "kserve_metadata": (KSERVE_MODEL, b'org/m'),
    "kserve_version": (KSERVE_MODEL, b'org/m/versions/1/ready'),
    "kserve_versions": (KSERVE_MODEL, b'org/m/versions/2'),
    "swap_unload": (SWAP_UNLOAD, b'org/m'),
    "control": (LOAD, b'{"model":"a\\u0000b"}'),
}

out = pathlib.Path(__file__).parent / "corpus" / "request"
out.mkdir(parents=True, exist_ok=True)
for name, (route, body) in SEEDS.items():
    (out / name).write_bytes(bytes([route]) + body)
