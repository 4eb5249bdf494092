/* tiny_model.c - see tiny_model.h. Weights are kept in doubles, as the file
 * stores them, and the truth is written for clarity, not speed. */
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "temp_dir.h"

#define MAX_TENSORS 128

struct tensor {
	char name[96];
	uint32_t rows, columns; /* columns 0: a vector */
	double *values;
};

static struct tiny_options made;
static struct tensor tensors[MAX_TENSORS], dense[2];
static size_t tensor_count;
static uint64_t random_state;

static void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);
	if (!memory)
		abort();
	return memory;
}

static double next_random(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (double)(random_state >> 40) / (1 << 24) * 2 - 1;
}

/* x as the file's type stores it (to), and its bytes. */
static double store(double x, enum tiny_dtype dtype, uint8_t *bytes)
{
	float f = (float)x;
	uint32_t bits;
	memcpy(&bits, &f, 4);
	if (dtype == TINY_F32) {
		memcpy(bytes, &bits, 4);
		return f;
	}
	if (dtype == TINY_BF16) {
		uint16_t high = (uint16_t)(bits >> 16);
		memcpy(bytes, &high, 2);
		bits = (uint32_t)high << 16;
		memcpy(&f, &bits, 4);
		return f;
	}
	/* half: 11 significant bits; below 2^-14 in steps of 2^-24 */
	int exponent;
	frexp(x, &exponent);
	if (exponent < -13)
		exponent = -13;
	double step = ldexp(1, exponent - 11), rounded = nearbyint(x / step) * step;
	double magnitude = fabs(rounded);
	uint16_t half = rounded < 0 || (rounded == 0 && signbit(x)) ? 0x8000 : 0;
	if (magnitude >= ldexp(1, -14)) {
		int e;
		double m = frexp(magnitude, &e);
		half |= (uint16_t)((e + 14) << 10) | (uint16_t)(ldexp(m, 11) - 1024);
	} else {
		half |= (uint16_t)ldexp(magnitude, 24);
	}
	memcpy(bytes, &half, 2);
	return rounded;
}

static void make_tensor(struct tensor *t, uint32_t rows, uint32_t columns, double centre,
			double spread, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(t->name, sizeof(t->name), format, list);
	va_end(list);
	size_t count = (size_t)rows * (columns ? columns : 1);
	t->rows = rows;
	t->columns = columns;
	free(t->values);
	t->values = allocate(count * sizeof(double));
	for (size_t i = 0; i < count; i++)
		t->values[i] = centre + spread * next_random();
}

#define ADD(rows, columns, centre, spread, ...)                                                    \
	make_tensor(&tensors[tensor_count++], rows, columns, centre, spread, __VA_ARGS__)

static void add_norm(const char *at)
{
	ADD(made.hidden, 0, 1, 0.3, "%s%s.%s", made.prefix, at,
	    made.old_names ? "LayerNorm.gamma" : "LayerNorm.weight");
	ADD(made.hidden, 0, 0, 0.3, "%s%s.%s", made.prefix, at,
	    made.old_names ? "LayerNorm.beta" : "LayerNorm.bias");
}

static void add_linear(const char *at, uint32_t out, uint32_t in)
{
	ADD(out, in, 0, 2 / sqrt(in), "%s%s.weight", made.prefix, at);
	ADD(out, 0, 0, 0.2, "%s%s.bias", made.prefix, at);
}

static void make_weights(void)
{
	char at[96];
	tensor_count = 0;
	ADD(TINY_VOCAB, made.hidden, 0, 1, "%sembeddings.word_embeddings.weight", made.prefix);
	ADD(made.positions, made.hidden, 0, 0.5, "%sembeddings.position_embeddings.weight",
	    made.prefix);
	ADD(2, made.hidden, 0, 0.5, "%sembeddings.token_type_embeddings.weight", made.prefix);
	add_norm("embeddings");
	for (uint32_t i = 0; i < made.layers; i++) {
		static const char *const names[] = {
			"attention.self.query",   "attention.self.key", "attention.self.value",
			"attention.output.dense", "intermediate.dense", "output.dense"};
		for (int k = 0; k < 6; k++) {
			snprintf(at, sizeof(at), "encoder.layer.%u.%s", i, names[k]);
			add_linear(at, k == 4 ? made.intermediate : made.hidden,
				   k == 5 ? made.intermediate : made.hidden);
		}
		snprintf(at, sizeof(at), "encoder.layer.%u.attention.output", i);
		add_norm(at);
		snprintf(at, sizeof(at), "encoder.layer.%u.output", i);
		add_norm(at);
	}
	/* read by nobody */
	ADD(made.hidden, made.hidden, 0, 1, "%spooler.dense.weight", made.prefix);
}

static size_t elements(const struct tensor *t)
{
	return (size_t)t->rows * (t->columns ? t->columns : 1);
}

static bool is(const char *asked, const struct tensor *t)
{
	return asked && strcmp(asked, t->name) == 0;
}

static void write_tensors(const char *path, struct tensor *list, size_t count,
			  enum tiny_dtype dtype)
{
	static const char *const names[] = {"F32", "F16", "BF16"};
	size_t width = dtype == TINY_F32 ? 4 : 2, offset = 0;
	struct vac_buf file = VAC_BUF_INIT;
	uint64_t length = 0;
	vac_buf_put(&file, &length, 8);
	for (size_t i = 0; i < count; i++) {
		const struct tensor *t = &list[i];
		size_t bytes = width * elements(t);
		if (is(made.leave_out, t))
			continue;
		vac_buf_printf(&file, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", offset ? "," : "{",
			       t->name, names[dtype]);
		if (is(made.wrong_shape, t))
			vac_buf_printf(&file, "%u,2", t->rows / 2);
		else if (t->columns)
			vac_buf_printf(&file, "%u,%u", t->rows, t->columns);
		else
			vac_buf_printf(&file, "%u", t->rows);
		vac_buf_printf(&file, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
		offset += bytes;
	}
	vac_buf_putc(&file, '}');
	length = file.bytes - 8;
	for (size_t i = 0; i < count; i++) {
		struct tensor *t = &list[i];
		uint8_t bytes[4];
		for (size_t k = 0; k < elements(t) && !is(made.leave_out, t); k++) {
			t->values[k] = store(t->values[k], dtype, bytes);
			vac_buf_put(&file, bytes, width);
		}
	}
	if (!vac_buf_ok(&file))
		abort();
	memcpy(file.data, &length, 8);
	temp_write(path, file.data, file.bytes);
	vac_buf_free(&file);
}

static void write_tokenizer(const char *path)
{
	char text[8192];
	int n = sprintf(text, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
			      "\"added_tokens\":[");
	static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
	for (int i = 0; i < 5; i++)
		n += sprintf(text + n,
			     "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,"
			     "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
			     "\"special\":true}",
			     i ? "," : "", i, special[i]);
	n += sprintf(text + n,
		     "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
		     "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
		     "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
		     "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
		     "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"
		     "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
		     "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":["
		     "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\","
		     "\"type_id\":1}}],\"special_tokens\":{"
		     "\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"
		     "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
		     "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
		     "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
		     "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
		     "\"vocab\":{");
	for (int i = 0; i < TINY_VOCAB; i++) {
		char word[16];
		snprintf(word, sizeof(word), "w%d", i - TINY_FIRST_WORD);
		n += sprintf(text + n, "%s\"%s\":%d", i ? "," : "",
			     i < TINY_FIRST_WORD ? special[i] : word, i);
	}
	sprintf(text + n, "}}}");
	temp_text(path, text);
}

static void write_sentence_transformers(const char *name)
{
	char path[256], text[1024];
	snprintf(path, sizeof(path), "%s/modules.json", name);
	snprintf(text, sizeof(text),
		 "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":"
		 "\"sentence_transformers.models.Transformer\"},{\"idx\":1,\"name\":\"1\",\"path\":"
		 "\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}%s%s]",
		 made.dense_out ? ",{\"idx\":2,\"name\":\"2\",\"path\":\"2_Dense\",\"type\":"
				  "\"sentence_transformers.models.Dense\"}"
				: "",
		 made.normalize ? ",{\"idx\":3,\"name\":\"3\",\"path\":\"3_Normalize\",\"type\":"
				  "\"sentence_transformers.models.Normalize\"}"
				: "");
	temp_text(path, text);
	snprintf(path, sizeof(path), "%s/1_Pooling/config.json", name);
	snprintf(text, sizeof(text), "{\"word_embedding_dimension\":%u,\"pooling_mode_%s\":true}",
		 made.hidden, made.pooling);
	temp_text(path, text);
	snprintf(path, sizeof(path), "%s/sentence_bert_config.json", name);
	snprintf(text, sizeof(text), "{\"do_lower_case\":false}");
	if (made.max_seq_length)
		snprintf(text, sizeof(text), "{\"max_seq_length\":%u,\"do_lower_case\":false}",
			 made.max_seq_length);
	temp_text(path, text);
	if (!made.dense_out)
		return;
	snprintf(path, sizeof(path), "%s/2_Dense/config.json", name);
	snprintf(text, sizeof(text),
		 "{\"in_features\":%u,\"out_features\":%u,\"bias\":true,\"activation_function\":"
		 "\"torch.nn.modules.activation.Tanh\"}",
		 made.hidden, made.dense_out);
	temp_text(path, text);
	make_tensor(&dense[0], made.dense_out, made.hidden, 0, 0.5, "linear.weight");
	make_tensor(&dense[1], made.dense_out, 0, 0, 0.5, "linear.bias");
	snprintf(path, sizeof(path), "%s/2_Dense/model.safetensors", name);
	write_tensors(path, dense, 2, TINY_F32);
}

const char *tiny_write(const char *name, const struct tiny_options *options)
{
	char path[256], text[1024];
	made = *options;
	made.hidden = made.hidden ? made.hidden : 32;
	made.heads = made.heads ? made.heads : 4;
	made.layers = made.layers ? made.layers : 2;
	made.intermediate = made.intermediate ? made.intermediate : 48;
	made.positions = made.positions ? made.positions : 24;
	made.prefix = made.prefix ? made.prefix : "";
	made.hidden_act = made.hidden_act ? made.hidden_act : "gelu";
	made.pooling = made.pooling ? made.pooling : "mean_tokens";
	random_state = made.seed * 7919u + 12345u;
	make_weights();
	snprintf(path, sizeof(path), "%s/config.json", name);
	snprintf(text, sizeof(text),
		 "{\"model_type\":\"bert\",\"architectures\":[\"BertModel\"],\"hidden_size\":%u,"
		 "\"num_attention_heads\":%u,\"num_hidden_layers\":%u,\"intermediate_size\":%u,"
		 "\"max_position_embeddings\":%u,\"type_vocab_size\":2,\"vocab_size\":%u,"
		 "\"layer_norm_eps\":1e-12,\"hidden_act\":\"%s\"%s}",
		 made.hidden, made.heads, made.layers, made.intermediate, made.positions,
		 TINY_VOCAB, made.hidden_act, made.extra_config ? made.extra_config : "");
	temp_text(path, text);
	snprintf(path, sizeof(path), "%s/tokenizer.json", name);
	write_tokenizer(path);
	snprintf(path, sizeof(path), "%s/model.safetensors", name);
	write_tensors(path, tensors, tensor_count, made.dtype);
	write_sentence_transformers(name);
	return temp_path(name);
}

/* How much its Dense module enlarges what the encoder is off by: the length of
 * the longest row of the matrix, at least 1. */
static double gain(void)
{
	double most = 1;
	for (uint32_t r = 0; r < made.dense_out; r++) {
		double square = 0;
		for (uint32_t c = 0; c < made.hidden; c++) {
			double w = dense[0].values[(size_t)r * made.hidden + c];
			square += w * w;
		}
		most = fmax(most, sqrt(square));
	}
	return most;
}

uint32_t tiny_width(void)
{
	return made.dense_out ? made.dense_out : made.hidden;
}

static const double *find(const char *format, ...)
{
	char rest[96], name[192];
	va_list list;
	va_start(list, format);
	vsnprintf(rest, sizeof(rest), format, list);
	va_end(list);
	snprintf(name, sizeof(name), "%s%s", made.prefix, rest);
	for (size_t i = 0; i < tensor_count; i++)
		if (strcmp(tensors[i].name, name) == 0)
			return tensors[i].values;
	fprintf(stderr, "tiny_model: no %s\n", name);
	abort();
}

static void norm(double *x, const char *at)
{
	const double *gamma = find("%s.LayerNorm.%s", at, made.old_names ? "gamma" : "weight");
	const double *beta = find("%s.LayerNorm.%s", at, made.old_names ? "beta" : "bias");
	double mean = 0, variance = 0;
	for (uint32_t i = 0; i < made.hidden; i++)
		mean += x[i] / made.hidden;
	for (uint32_t i = 0; i < made.hidden; i++)
		variance += (x[i] - mean) * (x[i] - mean) / made.hidden;
	for (uint32_t i = 0; i < made.hidden; i++)
		x[i] = (x[i] - mean) / sqrt(variance + 1e-12) * gamma[i] + beta[i];
}

static double *apply(const double *weight, const double *bias, const double *x, uint32_t in,
		     uint32_t out)
{
	double *y = allocate(out * sizeof(double));
	for (uint32_t o = 0; o < out; o++) {
		y[o] = bias[o];
		for (uint32_t i = 0; i < in; i++)
			y[o] += weight[(size_t)o * in + i] * x[i];
	}
	return y;
}

static double *linear(uint32_t layer, const char *name, const double *x, uint32_t in, uint32_t out)
{
	return apply(find("encoder.layer.%u.%s.weight", layer, name),
		     find("encoder.layer.%u.%s.bias", layer, name), x, in, out);
}

static double activation(double x)
{
	if (strcmp(made.hidden_act, "relu") == 0)
		return x > 0 ? x : 0;
	if (strcmp(made.hidden_act, "gelu") == 0)
		return x * 0.5 * erfc(-x / sqrt(2));
	return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3))));
}

/* context[i] of head h: sum over j of softmax_j(q_i k_j / sqrt d) v_j */
static void attend(double **q, double **k, double **v, size_t count, size_t i, uint32_t head,
		   double *context)
{
	uint32_t size = made.hidden / made.heads, first = head * size;
	double total = 0;
	for (uint32_t c = 0; c < size; c++)
		context[first + c] = 0;
	for (size_t j = 0; j < count; j++) {
		double score = 0;
		for (uint32_t c = 0; c < size; c++)
			score += q[i][first + c] * k[j][first + c];
		double weight = exp(score / sqrt(size));
		total += weight;
		for (uint32_t c = 0; c < size; c++)
			context[first + c] += weight * v[j][first + c];
	}
	for (uint32_t c = 0; c < size; c++)
		context[first + c] /= total;
}

static void add_and_free(double *to, double *from)
{
	for (uint32_t c = 0; c < made.hidden; c++)
		to[c] += from[c];
	free(from);
}

static void run_layer(uint32_t layer, double **x, size_t count)
{
	double *q[64], *k[64], *v[64], context[1024];
	char at[96];
	for (size_t i = 0; i < count; i++) {
		q[i] = linear(layer, "attention.self.query", x[i], made.hidden, made.hidden);
		k[i] = linear(layer, "attention.self.key", x[i], made.hidden, made.hidden);
		v[i] = linear(layer, "attention.self.value", x[i], made.hidden, made.hidden);
	}
	for (size_t i = 0; i < count; i++) {
		for (uint32_t h = 0; h < made.heads; h++)
			attend(q, k, v, count, i, h, context);
		add_and_free(x[i], linear(layer, "attention.output.dense", context, made.hidden,
					  made.hidden));
		snprintf(at, sizeof(at), "encoder.layer.%u.attention.output", layer);
		norm(x[i], at);
		double *middle =
			linear(layer, "intermediate.dense", x[i], made.hidden, made.intermediate);
		for (uint32_t c = 0; c < made.intermediate; c++)
			middle[c] = activation(middle[c]);
		add_and_free(x[i],
			     linear(layer, "output.dense", middle, made.intermediate, made.hidden));
		free(middle);
		snprintf(at, sizeof(at), "encoder.layer.%u.output", layer);
		norm(x[i], at);
	}
	for (size_t i = 0; i < count; i++) {
		free(q[i]);
		free(k[i]);
		free(v[i]);
	}
}

static void pool(double **x, size_t count, double *out)
{
	for (uint32_t c = 0; c < made.hidden; c++) {
		double sum = 0, most = -INFINITY;
		for (size_t i = 0; i < count; i++) {
			sum += x[i][c];
			most = fmax(most, x[i][c]);
		}
		if (strcmp(made.pooling, "cls_token") == 0)
			out[c] = x[0][c];
		else if (strcmp(made.pooling, "max_tokens") == 0)
			out[c] = most;
		else
			out[c] = sum / (strcmp(made.pooling, "mean_tokens") == 0 ? (double)count
										 : sqrt(count));
	}
}

void tiny_truth(const int32_t *ids, size_t count, double *out)
{
	double *x[64], pooled[1024];
	const double *word = find("embeddings.word_embeddings.weight");
	const double *position = find("embeddings.position_embeddings.weight");
	const double *type = find("embeddings.token_type_embeddings.weight");
	for (size_t i = 0; i < count; i++) {
		x[i] = allocate(made.hidden * sizeof(double));
		for (uint32_t c = 0; c < made.hidden; c++)
			x[i][c] = word[(size_t)ids[i] * made.hidden + c] +
				  position[i * made.hidden + c] + type[c];
		norm(x[i], "embeddings");
	}
	for (uint32_t layer = 0; layer < made.layers; layer++)
		run_layer(layer, x, count);
	pool(x, count, pooled);
	for (size_t i = 0; i < count; i++)
		free(x[i]);
	if (made.dense_out) {
		double *y = apply(dense[0].values, dense[1].values, pooled, made.hidden,
				  made.dense_out);
		for (uint32_t c = 0; c < made.dense_out; c++)
			pooled[c] = tanh(y[c]);
		free(y);
	}
	double square = 0;
	for (uint32_t c = 0; c < tiny_width(); c++)
		square += pooled[c] * pooled[c];
	for (uint32_t c = 0; c < tiny_width(); c++)
		out[c] = made.normalize ? pooled[c] / sqrt(square) : pooled[c];
}

void tiny_check(size_t input, const int32_t *ids, size_t count, const float *vector)
{
	double truth[2048], largest = 0;
	uint32_t width = tiny_width();
	assert_true(width <= sizeof(truth) / sizeof(truth[0]));
	tiny_truth(ids, count, truth);
	for (uint32_t c = 0; c < width; c++)
		largest = fmax(largest, fabs(truth[c]));
	for (uint32_t c = 0; c < width; c++)
		if (!(fabs(vector[c] - truth[c]) <= 2.5e-6 * gain() * largest))
			fail_msg("input %zu component %u: %.9g, the truth is %.9g", input, c,
				 vector[c], truth[c]);
}
