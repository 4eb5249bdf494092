/*
 * cpu.h - the parts of the cpu backend among themselves. One thread calls
 * everything here; inside, the team works.
 */
#ifndef VAC_ENGINE_CPU_CPU_H
#define VAC_ENGINE_CPU_CPU_H

#include "engine/cpu/kernels.h"
#include "engine/team.h"

struct vac_compute {
	uint32_t threads; /* of the team */
	const struct vac_cpu_kernels *kernels;
	struct vac_team *team;
	struct vac_linear *linears; /* kinds of product that are open */
	uint8_t *workspace;         /* divided evenly between the threads */
	uint64_t workspace_bytes;
	char description[128];
};

/* One thread's share of the workspace, and how much that is. */
static inline uint64_t vac_cpu_share_bytes(const struct vac_compute *c)
{
	return c->workspace_bytes / c->threads / 64 * 64;
}

/* linear.c: products, as compute.h has them. */
int vac_cpu_linear_open(struct vac_compute *c, const struct vac_linear_shape *shape,
			struct vac_linear **out, struct vac_error *err) VAC_MUST_CHECK;
void vac_cpu_linear_close(struct vac_compute *c, struct vac_linear *linear);
uint64_t vac_cpu_linear_packed_bytes(const struct vac_linear *linear);
int vac_cpu_linear_workspace(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			     uint64_t *bytes, struct vac_error *err) VAC_MUST_CHECK;
int vac_cpu_linear_pack(struct vac_compute *c, const struct vac_linear *linear, const float *weight,
			void *packed, struct vac_error *err) VAC_MUST_CHECK;
int vac_cpu_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			   struct vac_error *err) VAC_MUST_CHECK;
int vac_cpu_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		   const void *bias, uint32_t rows, const void *x, void *y,
		   struct vac_error *err) VAC_MUST_CHECK;
uint32_t vac_cpu_round_rows(const struct vac_compute *c, uint32_t rows);

#endif
