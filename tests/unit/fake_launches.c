/* fake_launches.c - see fake_launches.h. */
#include "fake_launches.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/compute.h"
#include "engine/cuda/backend.h"
#include "fake_cuda.h"

#define MOST_PARAMETERS 16

/* ---- kernels ---- */

/* The kernels' parameters, as their sources have them. */
#define P(type, i) (*(type *)parameters[i])

static void run_embed(void **parameters)
{
	const struct vac_embed embed = {
		.hidden = P(uint32_t, 1),
		.eps = P(float, 2),
		.word = P(const void *, 6),
		.position = P(const void *, 7),
		.type = P(const void *, 8),
		.gamma = P(const void *, 9),
		.beta = P(const void *, 10),
	};
	const struct vac_tokens tokens = {
		.rows = P(const uint32_t *, 5)[P(uint32_t, 0)],
		.sequences = P(uint32_t, 0),
		.ids = P(const int32_t *, 3),
		.types = P(const uint8_t *, 4),
		.starts = P(const uint32_t *, 5),
	};
	vac_backend_reference.embed(NULL, &embed, &tokens, P(void *, 11));
}

static void run_attention(void **parameters, uint32_t sequences)
{
	static double workspace[4096];
	const struct vac_attention attention = {
		.heads = P(uint32_t, 0), .head_size = P(uint32_t, 1), .scale = P(float, 2)};
	const struct vac_tokens tokens = {
		.sequences = sequences,
		.starts = P(const uint32_t *, 3),
	};
	struct vac_compute *c;
	const struct vac_compute_options options = {.threads = 1};
	assert_int_equal(vac_backend_reference.open(&options, &c, NULL), 0);
	vac_backend_reference.workspace(c, workspace, sizeof(workspace));
	vac_backend_reference.attention(c, &attention, &tokens, P(const void *, 4), P(void *, 5));
	vac_backend_reference.close(c);
}

/* Sequences without rows are left out. */
static void run_pool(void **parameters, uint32_t sequences)
{
	const uint32_t *starts = P(const uint32_t *, 2);
	const struct vac_tokens tokens = {.sequences = 1};
	uint32_t hidden = P(uint32_t, 1);
	for (uint32_t s = 0; s < sequences; s++) {
		struct vac_tokens one = tokens;
		one.starts = starts + s;
		if (starts[s + 1] > starts[s])
			vac_backend_reference.pool(NULL, (enum vac_pooling)P(int, 0), &one, hidden,
						   P(const void *, 3),
						   P(float *, 4) + (size_t)s * hidden);
	}
}

static double activate(const char *name, double x)
{
	static const struct {
		const char *name;
		enum vac_activation activation;
	} all[] = {
		{"gelu", VAC_ACTIVATION_GELU},       {"gelu_tanh", VAC_ACTIVATION_GELU_TANH},
		{"relu", VAC_ACTIVATION_RELU},       {"tanh", VAC_ACTIVATION_TANH},
		{"sigmoid", VAC_ACTIVATION_SIGMOID},
	};
	/* the same formulas, by a product of one column */
	const float one = 1, from = (float)x;
	float to = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct vac_linear_shape shape = {
			.in = 1, .out = 1, .activation = all[i].activation};
		struct vac_linear *linear;
		if (strcmp(all[i].name, name) != 0)
			continue;
		assert_int_equal(vac_backend_reference.linear_open(NULL, &shape, &linear, NULL), 0);
		assert_int_equal(
			vac_backend_reference.linear(NULL, linear, &one, NULL, 1, &from, &to, NULL),
			0);
		vac_backend_reference.linear_close(NULL, linear);
		return to;
	}
	fail_msg("activation %s", name);
	return 0;
}

static float half_value(uint16_t h)
{
	const int exponent = h >> 10 & 31, fraction = h & 1023;
	float value = exponent ? ldexpf((float)(1024 + fraction), exponent - 25)
			       : ldexpf((float)fraction, -24);
	return h & 0x8000 ? -value : value;
}

/* As its blocks would: each element once, by the item whose block it is in. */
static void run_convert(void **parameters, unsigned blocks)
{
	const struct vac_cuda_conversion *all = parameters[0];
	uint32_t next = 0;
	assert_in_range(all->count, 1, VAC_FETCH_ITEMS);
	assert_int_equal(all->blocks, blocks);
	for (uint32_t i = 0; i < all->count; i++) {
		const struct vac_cuda_converted *item = &all->items[i];
		const void *from = (const void *)(uintptr_t)item->from;
		float *to = (float *)(uintptr_t)item->to;
		assert_int_equal(item->first_block, next);
		next += (uint32_t)((item->count + 2047) / 2048);
		for (uint64_t k = 0; k < item->count; k++) {
			uint16_t narrow = ((const uint16_t *)from)[k];
			uint32_t wide = (uint32_t)narrow << 16;
			if (item->type == 16)
				to[k] = half_value(narrow);
			else
				memcpy(to + k, &wide, sizeof(wide));
		}
	}
	assert_int_equal(next, blocks);
}

static void run_kernel(const char *name, unsigned grid_y, unsigned grid_z, void **parameters)
{
	if (strncmp(name, "embed_", 6) == 0) {
		run_embed(parameters);
	} else if (strncmp(name, "layer_norm_", 11) == 0) {
		vac_backend_reference.layer_norm(NULL, P(uint32_t, 0), P(uint32_t, 1), P(float, 2),
						 P(const void *, 3), P(const void *, 4),
						 P(void *, 5));
	} else if (strcmp(name, "attention_any") == 0) {
		run_attention(parameters, grid_z);
	} else if (strcmp(name, "pool") == 0) {
		run_pool(parameters, grid_y);
	} else if (strcmp(name, "to_floats") == 0) {
		memcpy(P(void *, 2), P(const void *, 1), P(uint64_t, 0) * sizeof(float));
	} else {
		float *y = P(float *, 1);
		assert_int_equal(strncmp(name, "activate_", 9), 0);
		if (strcmp(name, "activate_relu") == 0) { /* of much, when algorithms are tried */
			for (uint64_t i = 0; i < P(uint64_t, 0); i++)
				y[i] = y[i] > 0 ? y[i] : 0;
			return;
		}
		for (uint64_t i = 0; i < P(uint64_t, 0); i++)
			y[i] = (float)activate(name + 9, y[i]);
	}
}

static void run_product(const struct fake_product *p)
{
	for (uint64_t j = 0; j < p->rows; j++)
		for (uint64_t i = 0; i < p->out; i++) {
			double sum = 0;
			for (uint64_t k = 0; k < p->in; k++)
				sum += (double)p->w[i * p->in + k] * p->x[j * p->in + k];
			if (p->adds)
				sum += p->y[j * p->out + i];
			if (p->bias)
				sum += p->bias[i];
			if (p->relu && sum < 0)
				sum = 0;
			p->y[j * p->out + i] = (float)sum;
		}
}

/* ---- graphs ---- */

struct node {
	struct node *next;
	const char *name; /* NULL: a product */
	unsigned grid_y, grid_z;
	uint64_t values[MOST_PARAMETERS];
	struct fake_product product;
};

struct CUgraph_st {
	struct node *first, **last;
	bool spoiled;
	uint64_t bytes;
};

static struct CUgraph_st *recording;

/* How wide the parameters of each kernel are: a digit each. */
static const struct {
	const char *name, *widths;
} kernels[] = {
	{"embed_warp", "444888888888"}, {"embed_block", "444888888888"},
	{"layer_norm_warp", "444888"},  {"layer_norm_block", "444888"},
	{"attention_any", "444888"},    {"pool", "44888"},
	{"to_floats", "888"},           {"activate_gelu", "88"},
	{"activate_gelu_tanh", "88"},   {"activate_relu", "88"},
	{"activate_tanh", "88"},        {"activate_sigmoid", "88"},
};

static struct node *add(void)
{
	struct node *node = calloc(1, sizeof(*node));
	assert_non_null(node);
	*recording->last = node;
	recording->last = &node->next;
	return node;
}

void fake_kernel(const char *name, unsigned grid_x, unsigned grid_y, unsigned grid_z,
		 void **parameters)
{
	size_t k = 0;
	if (strcmp(name, "convert") == 0) {
		assert_null(recording);
		run_convert(parameters, grid_x);
		return;
	}
	if (!recording) {
		run_kernel(name, grid_y, grid_z, parameters);
		return;
	}
	while (k < sizeof(kernels) / sizeof(kernels[0]) && strcmp(kernels[k].name, name) != 0)
		k++;
	if (k == sizeof(kernels) / sizeof(kernels[0]))
		fail_msg("kernel %s was recorded", name);
	struct node *node = add();
	node->name = name;
	node->grid_y = grid_y;
	node->grid_z = grid_z;
	for (size_t i = 0; kernels[k].widths[i]; i++)
		memcpy(&node->values[i], parameters[i], (size_t)(kernels[k].widths[i] - '0'));
}

void fake_multiply(const struct fake_product *product)
{
	if (recording)
		add()->product = *product;
	else
		run_product(product);
}

void fake_record(void)
{
	assert_null(recording);
	recording = calloc(1, sizeof(*recording));
	assert_non_null(recording);
	recording->last = &recording->first;
	fake_cuda.graphs++;
}

bool fake_capturing(void)
{
	return recording != NULL;
}

void fake_spoil(void)
{
	if (recording)
		recording->spoiled = true;
}

struct CUgraph_st *fake_recorded(bool whole)
{
	struct CUgraph_st *graph = recording;
	assert_non_null(graph);
	recording = NULL;
	if (whole && !graph->spoiled)
		return graph;
	fake_graph_drop(graph, false);
	return NULL;
}

struct CUgraphExec_st *fake_graph_made(const struct CUgraph_st *graph)
{
	struct CUgraph_st *copy = calloc(1, sizeof(*copy));
	assert_non_null(copy);
	copy->last = &copy->first;
	copy->bytes = fake_cuda.graph_bytes;
	fake_cuda.used_bytes += copy->bytes;
	for (const struct node *node = graph->first; node; node = node->next) {
		struct node *to = malloc(sizeof(*to));
		assert_non_null(to);
		*to = *node;
		to->next = NULL;
		*copy->last = to;
		copy->last = &to->next;
	}
	fake_cuda.execs++;
	return (struct CUgraphExec_st *)copy;
}

void fake_graph_play(const struct CUgraphExec_st *exec)
{
	assert_null(recording);
	for (struct node *node = ((const struct CUgraph_st *)exec)->first; node;
	     node = node->next) {
		void *parameters[MOST_PARAMETERS];
		for (size_t i = 0; i < MOST_PARAMETERS; i++)
			parameters[i] = &node->values[i];
		if (node->name)
			run_kernel(node->name, node->grid_y, node->grid_z, parameters);
		else
			run_product(&node->product);
	}
	fake_cuda.plays++;
}

void fake_graph_drop(struct CUgraph_st *graph, bool made)
{
	while (graph->first) {
		struct node *node = graph->first;
		graph->first = node->next;
		free(node);
	}
	fake_cuda.used_bytes -= graph->bytes;
	free(graph);
	*(made ? &fake_cuda.execs : &fake_cuda.graphs) -= 1;
}
