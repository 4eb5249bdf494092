#!/usr/bin/env python3
"""Writes corpus/config: one or two files of each kind that fuzz_config reads."""
import json
import pathlib

OUT = pathlib.Path(__file__).parent / "corpus" / "config"


def put(kind, name, value):
    (OUT / name).write_bytes(bytes([kind]) + json.dumps(value).encode())


def module(path, name, package="sentence_transformers.models."):
    return {"idx": 0, "name": "0", "path": path, "type": package + name}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    put(0, "model", {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
                     "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
                     "num_attention_heads": 12, "max_position_embeddings": 512,
                     "type_vocab_size": 2, "vocab_size": 30522, "pad_token_id": 0,
                     "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
                     "torch_dtype": "float32", "is_decoder": False, "use_cache": True})
    put(0, "model_nulls", {"pad_token_id": None, "id2label": {"0": "a"}, "hidden_size": -1})
    put(1, "modules", [module("", "Transformer"), module("1_Pooling", "Pooling"),
                       module("2_Dense", "Dense"), module("3_Normalize", "Normalize")])
    put(1, "modules_path", [module("", "Transformer"), module("../1_Pooling", "Pooling")])
    put(1, "modules_other", [module("", "Transformer", "custom_st.")])
    put(2, "pooling", {"word_embedding_dimension": 384, "pooling_mode_cls_token": False,
                       "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                       "pooling_mode_mean_sqrt_len_tokens": False,
                       "pooling_mode_weightedmean_tokens": False,
                       "pooling_mode_lasttoken": False, "include_prompt": True})
    put(2, "pooling_mode", {"embedding_dimension": 8, "pooling_mode": ["cls"]})
    put(3, "dense", {"in_features": 768, "out_features": 256, "bias": True,
                     "activation_function": "torch.nn.modules.activation.Tanh"})
    put(4, "transformer", {"max_seq_length": 256, "do_lower_case": False, "model_args": {}})
    put(5, "prompts", {"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    put(6, "tokenizer", {"model_max_length": int(1e30), "added_tokens_decoder": {"0": {}}})
    put(7, "normalize", {"module_input_name": "sentence_embedding"})


main()
