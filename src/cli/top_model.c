/* top_model.c - see top_model.h. */
#include "cli/top_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- history ---- */

void vac_top_history_add(struct vac_top_history *history, const struct vac_top_sample *sample)
{
	history->samples[history->next] = *sample;
	history->next = (history->next + 1) % VAC_TOP_SAMPLES;
	if (history->count < VAC_TOP_SAMPLES)
		history->count++;
}

const struct vac_top_sample *vac_top_history_at(const struct vac_top_history *history, uint32_t age)
{
	if (age >= history->count)
		return NULL;
	return &history->samples[(history->next + VAC_TOP_SAMPLES - 1 - age) % VAC_TOP_SAMPLES];
}

/* false: not known. */
static bool value_at(const struct vac_top_history *history, enum vac_top_curve curve, uint32_t age,
		     uint64_t *value)
{
	const struct vac_top_sample *sample = vac_top_history_at(history, age);

	if (!sample)
		return false;
	*value = curve == VAC_TOP_GPU_CURVE ? sample->percent.value : sample->bytes;
	return curve == VAC_TOP_GPU_CURVE ? sample->percent.valid : sample->bytes_valid;
}

void vac_top_spark(const struct vac_top_history *history, enum vac_top_curve curve, uint64_t most,
		   uint32_t width, uint8_t *levels)
{
	bool own = most == 0;
	uint64_t value;

	/* Also of what is not shown, so that the scale does not change on the way out. */
	for (uint32_t age = 0; own && age < history->count; age++)
		if (value_at(history, curve, age, &value) && value > most)
			most = value;
	/* All of them are nothing. */
	if (most == 0)
		most = 1;
	for (uint32_t age = 0; age < width; age++) {
		uint8_t *level = &levels[width - 1 - age];

		*level = 0;
		if (!value_at(history, curve, age, &value))
			continue;
		if (value > most)
			value = most;
		*level = (uint8_t)(1 + ceil((VAC_TOP_LEVELS - 1) * ((double)value / (double)most)));
	}
}

/* ---- tracks ---- */

struct vac_top_track *vac_top_track(struct vac_top_tracks *tracks, uint64_t key0, uint64_t key1)
{
	struct vac_top_track *track;

	/* Mostly they come in the same order as last time. */
	for (uint32_t i = 0; i < tracks->count; i++) {
		uint32_t at = (tracks->hint + i) % tracks->count;

		track = tracks->list[at];
		if (track->key[0] != key0 || track->key[1] != key1)
			continue;
		tracks->hint = at + 1;
		track->seen = tracks->refresh;
		return track;
	}
	if (tracks->count == tracks->capacity) {
		uint32_t capacity = tracks->capacity ? tracks->capacity * 2 : 32;
		struct vac_top_track **larger =
			reallocarray(tracks->list, capacity, sizeof(struct vac_top_track *));

		if (!larger)
			return NULL;
		tracks->list = larger;
		tracks->capacity = capacity;
	}
	track = calloc(1, sizeof(*track));
	if (!track)
		return NULL;
	track->key[0] = key0;
	track->key[1] = key1;
	track->seen = tracks->refresh;
	tracks->list[tracks->count++] = track;
	return track;
}

void vac_top_sweep(struct vac_top_tracks *tracks)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < tracks->count; i++) {
		if (tracks->list[i]->seen == tracks->refresh)
			tracks->list[kept++] = tracks->list[i];
		else
			free(tracks->list[i]);
	}
	tracks->count = kept;
	tracks->hint = 0;
	tracks->refresh++;
}

void vac_top_tracks_free(struct vac_top_tracks *tracks)
{
	for (uint32_t i = 0; i < tracks->count; i++)
		free(tracks->list[i]);
	free(tracks->list);
	*tracks = (struct vac_top_tracks){0};
}

struct vac_top_idle vac_top_watch_idle(struct vac_top_track *track, const struct vac_top_idle *told,
				       int64_t now_ms)
{
	struct vac_top_idle idle = *told;
	int64_t since_ms = now_ms - (told->busy ? 0 : told->ms);

	if (!told->valid)
		return idle;
	if (told->busy || !told->at_least) {
		track->idle_known = true;
		track->idle_at_least = false;
		track->idle_since_ms = since_ms;
		return idle;
	}
	/* NVML's samples begin when it was idle already: what was seen before them counts. */
	if (!track->idle_known) {
		track->idle_known = track->idle_at_least = true;
		track->idle_since_ms = since_ms;
	} else if (track->idle_at_least && since_ms < track->idle_since_ms) {
		track->idle_since_ms = since_ms;
	}
	idle.at_least = track->idle_at_least;
	idle.ms = now_ms > track->idle_since_ms ? now_ms - track->idle_since_ms : 0;
	return idle;
}

void vac_top_clean(char *to, size_t room, const char *text)
{
	bool inside = false; /* of a character that has its '?' already */
	size_t at = 0;

	assert(room > 0);
	/* to may be text: no byte is written before it was read. */
	for (; *text && at + 1 < room; text++) {
		unsigned char c = (unsigned char)*text;

		if (!inside || (c & 0xc0) != 0x80)
			to[at++] = (char)(c < ' ' || c > '~' ? '?' : c);
		inside = c >= 0x80;
	}
	to[at] = '\0';
}

/* ---- order ---- */

const char *vac_top_order_name(enum vac_top_order order)
{
	static const char *const names[VAC_TOP_ORDERS] = {
		[VAC_TOP_BY_VRAM] = "VRAM", [VAC_TOP_BY_RAM] = "RAM",   [VAC_TOP_BY_GPU] = "GPU",
		[VAC_TOP_BY_IDLE] = "IDLE", [VAC_TOP_BY_NAME] = "NAME",
	};

	return names[order];
}

struct order {
	enum vac_top_order by;
	bool reversed;
};

/* What a row is ordered by. */
struct place {
	bool known;
	uint64_t number; /* the largest first */
	const char *name;
	uint64_t tie; /* the smallest first, always */
};

static struct place number_place(bool known, uint64_t number)
{
	return (struct place){.known = known, .number = number};
}

static struct place idle_place(const struct vac_top_idle *idle)
{
	return number_place(idle->valid, idle->busy || idle->ms < 0 ? 0 : (uint64_t)idle->ms + 1);
}

static struct place process_place(const struct vac_top_process *p, enum vac_top_order by)
{
	struct place place;

	switch (by) {
	case VAC_TOP_BY_VRAM:
		place = number_place(p->vram_valid, p->vram_bytes);
		break;
	case VAC_TOP_BY_RAM:
		place = number_place(p->ram_valid, p->ram_bytes);
		break;
	case VAC_TOP_BY_GPU:
		place = number_place(p->gpu_percent.valid, p->gpu_percent.value);
		break;
	case VAC_TOP_BY_IDLE:
		place = idle_place(&p->idle);
		break;
	default:
		place = number_place(p->what[0] != '\0', 0);
		break;
	}
	place.name = p->what;
	place.tie = p->shown_pid;
	return place;
}

static struct place model_place(const struct vac_top_model *m, enum vac_top_order by)
{
	struct place place;

	switch (by) {
	case VAC_TOP_BY_VRAM:
		place = number_place(m->vram_valid, m->vram_bytes);
		break;
	case VAC_TOP_BY_RAM:
		place = number_place(m->ram_valid, m->ram_bytes);
		break;
	case VAC_TOP_BY_IDLE:
		place = idle_place(&m->idle);
		break;
	default: /* of its use of a GPU nothing is known */
		place = number_place(true, 0);
		break;
	}
	place.name = m->name;
	return place;
}

static int compare(const struct place *x, const struct place *y, const struct order *order)
{
	int way = 0;

	if (x->known != y->known)
		return x->known ? -1 : 1;
	if (x->known && x->number != y->number)
		way = x->number > y->number ? -1 : 1;
	else if (x->known && order->by == VAC_TOP_BY_NAME)
		way = strcmp(x->name, y->name);
	if (way != 0)
		return order->reversed ? -way : way;
	if (x->tie != y->tie)
		return x->tie < y->tie ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int compare_processes(const void *a, const void *b, void *ctx)
{
	const struct order *order = ctx;
	struct place x = process_place(a, order->by), y = process_place(b, order->by);

	return compare(&x, &y, order);
}

static int compare_models(const void *a, const void *b, void *ctx)
{
	const struct order *order = ctx;
	struct place x = model_place(a, order->by), y = model_place(b, order->by);

	return compare(&x, &y, order);
}

void vac_top_sort_processes(struct vac_top_process *list, size_t count, enum vac_top_order order,
			    bool reversed)
{
	struct order how = {order, reversed};

	if (count > 0)
		qsort_r(list, count, sizeof(*list), compare_processes, &how);
}

void vac_top_sort_models(struct vac_top_model *list, size_t count, enum vac_top_order order,
			 bool reversed)
{
	struct order how = {order, reversed};

	if (count > 0)
		qsort_r(list, count, sizeof(*list), compare_models, &how);
}

/* ---- room ---- */

static unsigned total_of(const unsigned *widths, size_t count)
{
	unsigned total = 0;

	for (size_t i = 0; i < count; i++)
		if (widths[i] > 0)
			total += widths[i] + (total > 0);
	return total;
}

/* The column to leave out next: the highest rank, the last of those; count: none. */
static size_t next_to_drop(const struct vac_top_column *columns, const unsigned *widths,
			   size_t count)
{
	size_t found = count;
	int rank = 0;

	for (size_t i = 0; i < count; i++) {
		if (widths[i] > 0 && columns[i].rank > 0 && columns[i].rank >= rank) {
			rank = columns[i].rank;
			found = i;
		}
	}
	return found;
}

void vac_top_layout(const struct vac_top_column *columns, size_t count, unsigned width,
		    unsigned *widths)
{
	bool grown = true;
	unsigned total;

	for (size_t i = 0; i < count; i++)
		widths[i] = columns[i].least;
	while (total_of(widths, count) > width) {
		size_t drop = next_to_drop(columns, widths, count);

		if (drop == count)
			break;
		widths[drop] = 0;
	}
	/* Nothing more to leave out: the last give way. */
	for (size_t i = count; i-- > 1 && total_of(widths, count) > width;)
		widths[i] = 0;
	if (count > 0 && widths[0] > width)
		widths[0] = width;
	total = total_of(widths, count);
	while (grown && total < width) {
		grown = false;
		for (size_t i = 0; i < count && total < width; i++) {
			if (widths[i] == 0 || widths[i] >= columns[i].most)
				continue;
			widths[i]++;
			total++;
			grown = true;
		}
	}
}

void vac_top_share(unsigned lines, const size_t wanted[VAC_TOP_SECTIONS],
		   unsigned shares[VAC_TOP_SECTIONS])
{
	static const enum vac_top_section order[] = {VAC_TOP_PROCESSES, VAC_TOP_DEVICES,
						     VAC_TOP_MODELS};
	bool given = true;

	/* A header and a row each, the most important first. */
	for (size_t i = 0; i < VAC_TOP_SECTIONS; i++) {
		unsigned least = wanted[order[i]] < 2 ? (unsigned)wanted[order[i]] : 2;

		shares[order[i]] = least <= lines ? least : 0;
		lines -= shares[order[i]];
	}
	while (given && lines > 0) {
		given = false;
		for (size_t i = 0; i < VAC_TOP_SECTIONS && lines > 0; i++) {
			unsigned *share = &shares[order[i]];

			if (*share == 0 || *share >= wanted[order[i]])
				continue;
			(*share)++;
			lines--;
			given = true;
		}
	}
}

size_t vac_top_scroll(size_t before, size_t count, size_t room, size_t selected)
{
	size_t first = before;

	if (room == 0 || count <= room)
		return 0;
	if (selected < count && selected < first)
		first = selected;
	if (selected < count && selected >= first + room)
		first = selected + 1 - room;
	return first > count - room ? count - room : first;
}
