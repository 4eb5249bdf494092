/* plans.c - the plan cache and the worker that fills it. The loop's thread only. */
#include "server/plans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/modelpath.h"
#include "base/text.h"

/* Of a directory's files and of those one level below (1_Pooling/config.json). */
#define SIGNATURE_LIMIT_BYTES ((size_t)256 << 10)

void vac_plans_init(struct vac_plans *plans, struct vac_supervisor *supervisor)
{
	*plans = (struct vac_plans){.supervisor = supervisor};
}

static void free_entry(struct vac_plan_entry *entry)
{
	free((char *)entry->key.dir);
	free((char *)entry->key.device);
	free((char *)entry->key.dtype);
	vac_buf_free(&entry->signature);
	free(entry);
}

void vac_plans_free(struct vac_plans *plans)
{
	while (plans->entries) {
		struct vac_plan_entry *entry = plans->entries;

		plans->entries = entry->next;
		free_entry(entry);
	}
}

/* ---- what the files look like ---- */

/* What a file is told by. The time of its last change is not only that of its content: a
 * file that could not be read may be allowed. */
struct mark {
	uint64_t inode, bytes;
	struct timespec modified, changed;
};

static bool counts(const char *name)
{
	return vac_ends_with(name, ".json") || vac_ends_with(name, ".safetensors") ||
	       vac_ends_with(name, ".bin");
}

/* What is no file that counts and no directory is not even asked about. Links are
 * followed: the hub's cache is made of them. */
static bool may_matter(const struct dirent *entry, bool below)
{
	if (entry->d_name[0] == '.')
		return false;
	return counts(entry->d_name) || (below && entry->d_type != DT_REG);
}

/* fd is closed. A list asks about each file of thousands of models: by names below an
 * open directory, and without words. */
static void sign_dir(struct vac_buf *buf, int fd, bool below)
{
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (vac_buf_ok(buf) && (entry = readdir(dir))) {
		const char *name = entry->d_name;
		struct stat st = {0};

		if (!may_matter(entry, below) || fstatat(fd, name, &st, 0) != 0)
			continue;
		if (S_ISREG(st.st_mode) && counts(name)) {
			const struct mark mark = {(uint64_t)st.st_ino, (uint64_t)st.st_size,
						  st.st_mtim, st.st_ctim};

			vac_buf_put(buf, name, strlen(name) + 1);
			vac_buf_put(buf, &mark, sizeof(mark));
		} else if (below && S_ISDIR(st.st_mode) && vac_model_has_part(name)) {
			vac_buf_put(buf, name, strlen(name) + 1);
			vac_buf_putc(buf, '/');
			sign_dir(buf, openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), false);
			vac_buf_putc(buf, '/');
		}
	}
	closedir(dir);
}

/* Empty for a directory that is gone. False: it cannot be told, out of memory. */
static bool signature_of(const char *dir, struct vac_buf *out)
{
	*out = (struct vac_buf){.limit_bytes = SIGNATURE_LIMIT_BYTES};
	sign_dir(out, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), true);
	vac_buf_putc(out, '\0'); /* never nothing: that is no signature */
	if (vac_buf_ok(out))
		return true;
	vac_buf_free(out);
	return false;
}

static bool same_signature(const struct vac_buf *a, const struct vac_buf *b)
{
	return a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

/* ---- asking ---- */

static void ask_next(struct vac_plans *plans);

static void conclude(struct vac_plans *plans, struct vac_plan_entry *entry,
		     const struct vac_error *error)
{
	entry->queued = false;
	entry->known = true;
	entry->error = error ? *error : (struct vac_error){0};
	plans->asked = NULL;
}

/* There was no answer, which says nothing about the files: the next one who
 * wants to know asks again. */
static void conclude_unanswered(struct vac_plans *plans, struct vac_plan_entry *entry,
				const struct vac_error *error)
{
	conclude(plans, entry, error);
	vac_buf_free(&entry->signature);
}

/* False: the files changed while they were read, and are to be read again. */
static bool still_wanted(struct vac_plans *plans, struct vac_plan_entry *entry)
{
	if (!entry->changed)
		return true;
	entry->changed = false;
	plans->asked = NULL; /* it is still queued */
	return false;
}

static int answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
		    const void *payload, struct vac_error *err)
{
	struct vac_plans *plans = VAC_CONTAINER(exchange, struct vac_plans, exchange);
	struct vac_plan_entry *entry = plans->asked;
	struct vac_wire_model model;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_PLANNED:
		if (vac_wire_get_model(payload, header->payload_bytes, &model, err) < 0)
			return -EINVAL;
		if (still_wanted(plans, entry)) {
			vac_model_info_copy(&entry->info, &model);
			conclude(plans, entry, NULL);
		}
		ask_next(plans);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		vac_model_refused(entry->key.dir, &refusal);
		if (still_wanted(plans, entry)) {
			/* No room is about this moment, not about the files. */
			if (refusal.code == VAC_E_NO_ROOM)
				conclude_unanswered(plans, entry, &refusal);
			else
				conclude(plans, entry, &refusal);
		}
		ask_next(plans);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "PLAN was answered with type %u", header->type);
	}
}

static void lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct vac_plans *plans = VAC_CONTAINER(exchange, struct vac_plans, exchange);
	struct vac_plan_entry *entry = plans->asked;

	plans->worker = NULL;
	if (why->code == VAC_E_GONE && ++entry->losses < 2)
		plans->asked = NULL; /* it is still queued */
	else
		conclude_unanswered(plans, entry, why);
	ask_next(plans);
}

static void all_known(struct vac_plans *plans)
{
	struct vac_plan_wait *wait = plans->waits;

	if (plans->worker)
		vac_worker_stop(plans->worker);
	plans->worker = NULL;
	plans->waits = NULL;
	while (wait) {
		struct vac_plan_wait *next = wait->next;
		void (*done)(struct vac_plan_wait *) = wait->done;

		wait->done = NULL;
		done(wait);
		wait = next;
	}
}

static int ask(struct vac_plans *plans, struct vac_plan_entry *entry, struct vac_error *err)
{
	const struct vac_plan_key *key = &entry->key;
	struct vac_wire_load load = {
		.dir = vac_wire_text(key->dir),
		.max_batch_tokens = key->max_batch_tokens,
		.dtype = vac_wire_text(key->dtype),
	};

	/* It asks about one device at a time. */
	if (plans->worker && strcmp(plans->worker->device, key->device) != 0)
		vac_worker_stop(plans->worker);
	plans->worker = vac_supervisor_worker(plans->supervisor, key->device, NULL, true, err);
	if (!plans->worker)
		return -EIO;
	plans->exchange.answer = answered;
	plans->exchange.lost = lost;
	return vac_worker_ask_load(plans->worker, VAC_WIRE_PLAN, &load, &plans->exchange, err);
}

static struct vac_plan_entry *next_queued(const struct vac_plans *plans)
{
	struct vac_plan_entry *entry = plans->entries;

	while (entry && !entry->queued)
		entry = entry->next;
	return entry;
}

static void ask_next(struct vac_plans *plans)
{
	struct vac_error err;

	while (!plans->asked) {
		struct vac_plan_entry *entry = next_queued(plans);

		if (!entry) {
			all_known(plans);
			return;
		}
		plans->asked = entry;
		if (ask(plans, entry, &err) < 0)
			conclude_unanswered(plans, entry, &err);
	}
}

/* ---- the cache ---- */

static bool same_key(const struct vac_plan_key *a, const struct vac_plan_key *b)
{
	if (a->max_batch_tokens != b->max_batch_tokens || strcmp(a->dir, b->dir) != 0 ||
	    strcmp(a->device, b->device) != 0)
		return false;
	return a->dtype && b->dtype ? strcmp(a->dtype, b->dtype) == 0 : a->dtype == b->dtype;
}

/* A list of thousands of models looks for each of them. */
static uint32_t bucket_of(const char *dir)
{
	return vac_hash_text(dir) & (VAC_PLAN_BUCKETS - 1);
}

static struct vac_plan_entry *find(const struct vac_plans *plans, const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = plans->buckets[bucket_of(key->dir)];

	while (entry && !same_key(&entry->key, key))
		entry = entry->chain;
	return entry;
}

static void unchain(struct vac_plans *plans, const struct vac_plan_entry *entry)
{
	struct vac_plan_entry **at = &plans->buckets[bucket_of(entry->key.dir)];

	while (*at != entry)
		at = &(*at)->chain;
	*at = entry->chain;
}

static struct vac_plan_entry *add(struct vac_plans *plans, const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = calloc(1, sizeof(*entry)), **bucket;

	if (!entry)
		return NULL;
	entry->key = (struct vac_plan_key){
		.dir = strdup(key->dir),
		.device = strdup(key->device),
		.dtype = key->dtype ? strdup(key->dtype) : NULL,
		.max_batch_tokens = key->max_batch_tokens,
	};
	if (!entry->key.dir || !entry->key.device || (key->dtype && !entry->key.dtype)) {
		free_entry(entry);
		return NULL;
	}
	entry->next = plans->entries;
	plans->entries = entry;
	bucket = &plans->buckets[bucket_of(entry->key.dir)];
	entry->chain = *bucket;
	*bucket = entry;
	return entry;
}

/* The entry of a directory as its files are now; known is false when they
 * changed. NULL when out of memory. */
static struct vac_plan_entry *look(struct vac_plans *plans, const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = find(plans, key);
	struct vac_buf signature;

	if (!entry)
		entry = add(plans, key);
	if (!entry)
		return NULL;
	entry->seen = true;
	if (!signature_of(key->dir, &signature))
		return NULL;
	if (entry->signature.bytes > 0 && same_signature(&entry->signature, &signature)) {
		vac_buf_free(&signature);
		return entry;
	}
	if (entry == plans->asked)
		entry->changed = true;
	vac_buf_free(&entry->signature);
	entry->signature = signature;
	entry->known = false;
	return entry;
}

const struct vac_plan_entry *vac_plans_get(struct vac_plans *plans, const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = look(plans, key);

	if (!entry || entry->known)
		return entry;
	if (!entry->queued) {
		entry->changed = false;
		entry->losses = 0;
		entry->queued = true;
	}
	return NULL;
}

const struct vac_plan_entry *vac_plans_known(struct vac_plans *plans,
					     const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = look(plans, key);

	return entry && entry->known ? entry : NULL;
}

void vac_plans_put(struct vac_plans *plans, const struct vac_plan_key *key,
		   const struct vac_model_info *info)
{
	struct vac_plan_entry *entry = find(plans, key);

	/* One that is queued will be answered by the worker that it is asked of. */
	if (!entry || entry->signature.bytes == 0 || entry->queued)
		return;
	entry->known = true;
	entry->error = (struct vac_error){0};
	entry->info = *info;
}

const struct vac_plan_entry *vac_plans_peek(const struct vac_plans *plans,
					    const struct vac_plan_key *key)
{
	struct vac_plan_entry *entry = find(plans, key);

	return entry && entry->known ? entry : NULL;
}

void vac_plans_wait(struct vac_plans *plans, struct vac_plan_wait *wait,
		    void (*done)(struct vac_plan_wait *wait))
{
	wait->done = done;
	wait->next = plans->waits;
	plans->waits = wait;
	ask_next(plans);
}

void vac_plans_unwait(struct vac_plans *plans, struct vac_plan_wait *wait)
{
	struct vac_plan_wait **at = &plans->waits;

	if (!wait->done)
		return;
	while (*at && *at != wait)
		at = &(*at)->next;
	if (*at)
		*at = wait->next;
	wait->done = NULL;
}

void vac_plans_drop(struct vac_plans *plans)
{
	if (plans->waits)
		return;
	for (struct vac_plan_entry *entry = plans->entries; entry; entry = entry->next)
		entry->queued &= entry == plans->asked;
}

void vac_plans_sweep(struct vac_plans *plans)
{
	struct vac_plan_entry **at = &plans->entries;

	/* Who waits for others' plans, too, will look for its own when all are there. */
	if (plans->waits)
		return;
	while (*at) {
		struct vac_plan_entry *entry = *at;

		if (entry->seen || entry->queued) {
			entry->seen = false;
			at = &entry->next;
			continue;
		}
		*at = entry->next;
		unchain(plans, entry);
		free_entry(entry);
	}
}
