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

bool vac_receipt_valid(const struct vac_receipt *receipt)
{
	return receipt->worker_before.valid && receipt->worker_after.valid;
}

/* A page that was swapped out before the unload comes back from swap and not
 * from RAM; it came back all the same. */
static int64_t private_bytes(const struct vac_usage *usage)
{
	return (int64_t)(usage->uss_bytes + usage->swap_bytes);
}

int64_t vac_receipt_returned_bytes(const struct vac_receipt *receipt)
{
	if (!vac_receipt_valid(receipt))
		return 0;
	return private_bytes(&receipt->worker_before) - private_bytes(&receipt->worker_after);
}

uint64_t vac_receipt_unaccounted_bytes(const struct vac_receipt *receipt)
{
	int64_t returned = vac_receipt_returned_bytes(receipt);

	if (returned <= 0) /* it even grew: none of the ledger's bytes were seen to go */
		return receipt->ledger_bytes;
	if ((uint64_t)returned >= receipt->ledger_bytes)
		return 0;
	return receipt->ledger_bytes - (uint64_t)returned;
}
