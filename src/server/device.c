/* device.c - devices set up. The loop's thread only. */
#include "server/device.h"

void vac_device_init(struct vac_device *device, const char *name, const char *option)
{
	*device = (struct vac_device){.name = name, .option = option};
}

void vac_device_limit(struct vac_device *device, bool on_device, const struct vac_size *limit,
		      const struct vac_size *headroom,
		      void (*measure)(void *ctx, struct vac_budget_room *out), void *ctx)
{
	device->limited = true;
	vac_budget_init(&device->budget, on_device, limit, headroom, measure, ctx);
}
