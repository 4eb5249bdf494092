/*
 * fake_launches.h - what the fake GPU of fake_cuda.c computes: kernels and products,
 * at once, or recorded by value for a graph, as the driver does.
 */
#ifndef FAKE_LAUNCHES_H
#define FAKE_LAUNCHES_H

#include <stdbool.h>
#include <stdint.h>

struct CUgraph_st;
struct CUgraphExec_st;

/* y = x w^T + bias, + y, and the larger of that and 0. */
struct fake_product {
	const float *w, *x, *bias; /* bias: NULL for none */
	float *y;
	uint64_t in, out, rows;
	bool adds, relu;
};

void fake_kernel(const char *name, unsigned grid_x, unsigned grid_y, unsigned grid_z,
		 void **parameters);
void fake_multiply(const struct fake_product *product);

/* From record to recorded nothing is computed. Something failed meanwhile: there is no
 * graph. */
void fake_record(void);
bool fake_capturing(void);
void fake_spoil(void);
struct CUgraph_st *fake_recorded(bool whole);
struct CUgraphExec_st *fake_graph_made(const struct CUgraph_st *graph);
void fake_graph_play(const struct CUgraphExec_st *exec);
void fake_graph_drop(struct CUgraph_st *graph, bool made);

#endif
