/*
 * fake_tables.h - the functions of the fake GPU (fake_cuda.h), for who hands them on.
 */
#ifndef FAKE_TABLES_H
#define FAKE_TABLES_H

#include "driver/cuda.h"
#include "engine/cuda/cublaslt.h"
#include "engine/cuda/kernels.h"

extern const struct vac_cuda fake_cuda_table;
extern const struct vac_blas fake_blas_table;
extern const struct vac_nvrtc fake_nvrtc_table;

#endif
