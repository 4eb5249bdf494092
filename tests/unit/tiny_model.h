/*
 * tiny_model.h - a small BERT checkpoint with random weights, written into the
 * test's temporary directory (temp_dir.h), and its hidden states computed from
 * the same weights by the plain formulas in double precision. One thread.
 */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tiny_dtype { TINY_F32, TINY_F16, TINY_BF16 };

struct tiny_options {
	uint32_t hidden, heads, layers, intermediate, positions; /* 0: a default */
	enum tiny_dtype dtype;
	const char *prefix;     /* of tensor names: "" or "bert." */
	bool old_names;         /* LayerNorm.gamma and beta */
	const char *hidden_act; /* NULL: "gelu" */
	const char *pooling;    /* NULL: "mean_tokens"; the member's name without pooling_mode_ */
	uint32_t dense_out;     /* a Dense module with tanh; 0: none */
	bool normalize;
	uint32_t max_seq_length;  /* 0: not stated */
	const char *leave_out;    /* a tensor that is not written */
	const char *wrong_shape;  /* a vector [n] that is written as [n/2, 2] */
	const char *extra_config; /* more members of config.json: ", \"x\": 1" */
	unsigned seed;
};

/* Words of the vocabulary: "w0" .. ; their ids are TINY_FIRST_WORD + n. */
#define TINY_VOCAB      40
#define TINY_CLS        2
#define TINY_SEP        3
#define TINY_FIRST_WORD 5

/* Writes NAME/ with config.json, tokenizer.json, model.safetensors and the
 * files of sentence-transformers, and returns its path. */
const char *tiny_write(const char *name, const struct tiny_options *options);
/* The vector of one sequence by the model that was written last (its weights
 * as its dtype stores them), all pooling and modules done. out has room for
 * hidden or dense_out. */
void tiny_truth(const int32_t *ids, size_t count, double *out);
/* Fails the test where a vector in float32 is off by more than roundings can be; input names it. */
void tiny_check(size_t input, const int32_t *ids, size_t count, const float *vector);
/* Components of its vectors. */
uint32_t tiny_width(void);

#endif
