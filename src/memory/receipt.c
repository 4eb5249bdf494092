/* receipt.c - the arithmetic of receipts. Any thread. */
#include "memory/receipt.h"

static const char *const reason_names[] = {
	[VAC_UNLOAD_REQUEST] = "request",   [VAC_UNLOAD_IDLE] = "idle",
	[VAC_UNLOAD_SHUTDOWN] = "shutdown", [VAC_UNLOAD_WORKER_DIED] = "worker_died",
	[VAC_UNLOAD_EVICTED] = "evicted",   [VAC_UNLOAD_SETTINGS] = "settings",
};

const char *vac_unload_reason_name(enum vac_unload_reason reason)
{
	size_t index = (size_t)reason;

	if (index >= sizeof(reason_names) / sizeof(reason_names[0]) || !reason_names[index])
		return "unknown";
	return reason_names[index];
}

static bool host_valid(const struct vac_receipt *receipt)
{
	return receipt->worker_before.valid && receipt->worker_after.valid;
}

bool vac_receipt_valid(const struct vac_receipt *receipt)
{
	int64_t bytes;

	return host_valid(receipt) &&
	       (!receipt->on_device || vac_receipt_device_returned(receipt, &bytes));
}

/* A page that was swapped out before the unload comes back from swap and not
 * from RAM; it came back all the same. */
static int64_t private_bytes(const struct vac_usage *usage)
{
	return (int64_t)(usage->uss_bytes + usage->swap_bytes);
}

int64_t vac_receipt_returned_bytes(const struct vac_receipt *receipt)
{
	if (!host_valid(receipt))
		return 0;
	return private_bytes(&receipt->worker_before) - private_bytes(&receipt->worker_after);
}

bool vac_receipt_device_returned(const struct vac_receipt *receipt, int64_t *bytes)
{
	const struct vac_device_memory *before = &receipt->device_before;
	const struct vac_device_memory *after = &receipt->device_after;

	if (!receipt->on_device || !before->valid || !after->valid)
		return false;
	/* What other processes took or gave back meanwhile is not in it. */
	if (before->process_bytes_valid && after->process_bytes_valid)
		*bytes = (int64_t)(before->process_bytes - after->process_bytes);
	else
		*bytes = (int64_t)(before->used_bytes - after->used_bytes);
	return true;
}

/* Of a ledger's bytes those that were not seen to come back. */
static uint64_t missing(uint64_t ledger_bytes, int64_t returned_bytes)
{
	if (returned_bytes <= 0) /* it even grew */
		return ledger_bytes;
	return (uint64_t)returned_bytes >= ledger_bytes ? 0
							: ledger_bytes - (uint64_t)returned_bytes;
}

uint64_t vac_receipt_unaccounted_bytes(const struct vac_receipt *receipt)
{
	int64_t device_bytes = 0;

	(void)vac_receipt_device_returned(receipt, &device_bytes);
	return missing(receipt->ledger_bytes - receipt->device_ledger_bytes,
		       vac_receipt_returned_bytes(receipt)) +
	       missing(receipt->device_ledger_bytes, device_bytes);
}
