/* fake_install.c - the fake GPU in place of the libraries of this process. */
#include "fake_cuda.h"
#include "fake_tables.h"

void fake_cuda_install(void)
{
	static const struct vac_cuda_cubin none = {0};
	vac_cuda_inject(&fake_cuda_table);
	vac_blas_inject(&fake_blas_table);
	vac_nvrtc_inject(&fake_nvrtc_table);
	vac_cuda_cubins_inject(&none);
}

void fake_cuda_remove(void)
{
	vac_cuda_inject(NULL);
	vac_blas_inject(NULL);
	vac_nvrtc_inject(NULL);
	vac_cuda_cubins_inject(NULL);
}
