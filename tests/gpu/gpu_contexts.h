/* gpu_contexts.h - a part of gpu_probe. */
#ifndef VAC_TESTS_GPU_CONTEXTS_H
#define VAC_TESTS_GPU_CONTEXTS_H

/* Makes and destroys a context so often, with what the list names ("stream,region,pinned,
 * module,blas", "" nothing) in each; prints this process's private memory at every 10th.
 * 0, or an exit status. */
int run_contexts(int count, const char *list);

#endif
