/* text.h - what several files ask of a name. Any thread; no state. */
#ifndef VAC_BASE_TEXT_H
#define VAC_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

bool vac_ends_with(const char *text, const char *end);
/* FNV-1a, for tables of names: whoever chooses the names may make it useless. */
uint32_t vac_hash_text(const char *text);

#endif
